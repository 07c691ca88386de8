#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Export the model to ONNX, and prove that the file computes what PyTorch computes.

Writes wav2vec2-base-960h.onnx: opset 11, input `input` (batch_size, data_len) float32, output `output`
(batch_size, frames, symbols) float32. With --attention_mask, wav2vec2-base-960h-masked.onnx has a second input,
`attention_mask`, of the same shape. onnx checks the file, and its outputs in onnxruntime are compared with PyTorch's: a
plain model at five lengths, a masked model at five lengths in all gears. If OpenVINO is installed, its outputs are
compared, too. If any differ, the export fails and leaves no file. A model above 2 GB, protobuf's limit, has its weights
in a second file beside it, named in the first one: they stay together. The model's metadata say how its waveforms and
symbols are to be read. With --quantize=int8, an int8 model is written beside it, unless its WER is more than 0.5 points
higher.

    python export_onnx.py --model_save_dir=./models
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import MODEL_NAME, cli

# isort: split

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_eval.engines.model_file import external_files
from wav2vec2_eval.files.names import INT8_SUFFIX, MASKED_SUFFIX, MODEL_RECORD_KEY, is_base_name, model_name
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.machine.terminal import say
from wav2vec2_eval.speech.readable import format_size

if TYPE_CHECKING:
    from wav2vec2_eval.files.model_record import ModelRecord


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "--model_save_dir", required=True, type=cli.path_text, metavar="FOLDER", help="where the .onnx file is written"
    )
    cli.add_model_option(parser)
    parser.add_argument(
        "--model_name",
        metavar="NAME",
        help=f"base name of the files, {MODEL_NAME} by default; given, an earlier export of this name is replaced, "
        "whatever model it is of",
    )
    parser.add_argument(
        "--attention_mask",
        action="store_true",
        help=f"export {MODEL_NAME}{MASKED_SUFFIX}.onnx, whose second input attention_mask marks the real samples: "
        "its logits do not depend on the padding",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="also export a quantized model, ...-int8.onnx, for pyacl_infer.py --precision=int8; needs NNCF",
    )
    parser.add_argument(
        "--calibration",
        type=cli.path,
        metavar="FILE",
        help="a manifest of preprocess.py: half of its utterances calibrate --quantize, the others prove its accuracy",
    )
    cli.add_quiet_option(parser)
    args = parser.parse_args(argv)
    if (args.quantize is None) != (args.calibration is None):
        parser.error("--quantize and --calibration go together")
    if args.model_name is not None and not is_base_name(args.model_name):
        parser.error(
            f"--model_name: expected a name without folder, suffix, {MASKED_SUFFIX} or {INT8_SUFFIX}, found "
            f"{args.model_name!r:.80}"
        )
    return args


def check_replaced(paths: Sequence[Path], record: ModelRecord) -> None:
    """Raise SuiteError if a file that the export would replace was exported from another model than that of `record`.

    The same folder is another model if it has other symbols: those of another language.
    """
    from wav2vec2_eval.engines.model_file import read_metadata
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.model_record import parse_record

    for path in filter(Path.is_file, paths):
        try:
            earlier = parse_record(read_metadata(path)[MODEL_RECORD_KEY], str(path))
        except (SuiteError, KeyError):
            continue  # nobody knows of which model it is
        model, other = record.name, earlier.name
        is_same = other == model or Path(other).resolve() == Path(model).resolve()
        if not is_same or earlier.symbols != record.symbols:
            what = "with other symbols" if is_same else f"from {other}"
            proposed = model.rstrip("/").rpartition("/")[2].rpartition("--")[2]
            proposed = proposed if is_base_name(proposed) and proposed != MODEL_NAME else "NAME"
            raise SuiteError(
                f"{path} was exported {what}, and {model} would replace it; give --model_name={proposed} to "
                f"keep both, or --model_name={MODEL_NAME} to replace it"
            )


def size_of(path: Path) -> str:
    """The size of a model with its external weights."""
    return format_size(sum((path.parent / name).stat().st_size for name in (path.name, *external_files(path))))


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.files.model_record import ModelRecord, format_record
    from wav2vec2_eval.files.space import check_space
    from wav2vec2_eval.sources.model_folder import feature_extractor, symbols

    folder, base, masked = Path(args.model_save_dir), args.model_name or MODEL_NAME, args.attention_mask
    path, quantized = (folder / model_name(base, attention_mask=masked, int8=is_int8) for is_int8 in (False, True))
    name = args.model_name_or_path
    record = ModelRecord(name, feature_extractor(name), symbols(name, args.target_lang))
    if args.model_name is None:
        check_replaced([path, quantized] if args.quantize else [path], record)
    from wav2vec2_eval.export import int8

    if args.quantize:  # report mistakes in these options before the long export
        int8.check_installed()
        calibrated, held_out = int8.read_calibration(args.calibration, 2 if args.attention_mask else 1)
    from wav2vec2_eval.export import graph, proof
    from wav2vec2_eval.sources.pytorch_model import load_model

    # ONNX has no fused attention at opset 11.
    model = load_model(name, attention="eager", target_lang=args.target_lang)
    if args.quantize:
        int8.check_size(model, name)
    graph.fold_weight_norm(model)
    check_space(folder, graph.float32_bytes(model) * (2 if args.quantize else 1), "the weights of the export")
    error = proof.export_proven(
        model,
        path,
        attention_mask=args.attention_mask,
        metadata={MODEL_RECORD_KEY: format_record(record)},
        num_threads=default_threads(),
    )
    say(f"written: {path}")
    for compiled in (path.with_suffix(".om"), path.with_suffix(".om2")):
        if compiled.exists():
            print(f"{compiled} was compiled from an earlier export: run onnx2om.sh again")
    if args.quantize:
        del model
        figures = int8.export_int8(path, quantized, calibrated, held_out, record.symbols, default_threads())
        say(f"written: {quantized}")
        print(f"{quantized}: {size_of(quantized)}, {figures}")
    else:
        print(f"{path}: {size_of(path)}, relative error {error:.1e} against PyTorch")
    return 0


if __name__ == "__main__":
    cli.run(main)
