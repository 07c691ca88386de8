#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the model over preprocessed utterances, and time it.

Reads the manifest that preprocess.py wrote, and writes each output i of utterance k as <k>.<i>.bin (or .npy), then
infer_time.txt. The results folder also keeps results.tsv (shape, type and time of each finished utterance), copies of
what scoring needs, and run.json (the conditions). The engine follows from the model file: .om runs on an Ascend NPU,
.onnx on this host's CPU.

    python pyacl_infer.py --model_path=./models/wav2vec2-base-960h.om \\
        --input_info_file_path=./pre_data/clean/bin_file.info --infer_res_save_path=./om_infer_res_clean
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from wav2vec2_eval import cli
from wav2vec2_eval.engines.base import Engine
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.clock import MeasureTime, timed
from wav2vec2_eval.engines.precision import CPU_ENGINES, CPU_PRECISIONS, parse_precision
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import manifest, results, run_folder
from wav2vec2_eval.files.atomic import file_digest, write_text
from wav2vec2_eval.files.journal import read_journal
from wav2vec2_eval.files.locks import locked
from wav2vec2_eval.files.manifest import Inputs, References
from wav2vec2_eval.files.names import INFER_TIME_NAME
from wav2vec2_eval.files.tensors import DTYPE, parse_dtypes
from wav2vec2_eval.machine.overlap import WriteBehind, read_ahead
from wav2vec2_eval.speech.audio import SAMPLE_RATE
from wav2vec2_eval.speech.latency import check_warm_up, format_figures, summarise

__all__ = ["DTYPE", "MeasureTime", "main"]

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    option = parser.add_argument
    option("--model_path", required=True, type=Path, metavar="FILE", help=".om for an NPU, .onnx for this host's CPU")
    option("--device_id", type=cli.integer(0), default=0, metavar="N", help="NPU; not used by the CPU")
    option(
        "--cpu_run",
        type=cli.boolean,
        default=True,
        metavar="BOOL",
        help="NPU: False synchronises the device before the clock is read, which leaves no overlap",
    )
    option(
        "--sync_infer",
        type=cli.boolean,
        default=True,
        metavar="BOOL",
        help="NPU: True executes and waits, timed by the host; False keeps two utterances queued, timed by the "
        "device's events (with --cpu_run=False it queues one, timed by the host); no effect on a CPU",
    )
    cli.add_workspace_option(parser, default=0)
    option("--input_info_file_path", required=True, type=Path, metavar="FILE", help="manifest from preprocess.py")
    option(
        "--input_dtypes",
        type=cli.checked(parse_dtypes),
        default="float32",
        metavar="NAMES",
        help=f"one per model input, with commas between: {' '.join(DTYPE)}",
    )
    option("--infer_res_save_path", required=True, type=Path, metavar="FOLDER", help="where results are written")
    option("--res_save_type", choices=("bin", "npy"), default="bin", help="raw tensors, or NumPy files")
    option("--resume", action="store_true", help="keep the finished results of an interrupted run, infer the rest")
    option("--engine", choices=CPU_ENGINES, default="auto", help="CPU; auto: onnxruntime in f32, else openvino")
    option(
        "--precision",
        type=parse_precision,
        choices=CPU_PRECISIONS,
        default="f32",
        help="CPU; int8 needs a quantized model",
    )
    option(
        "--in_flight",
        type=cli.integer(1),
        metavar="N",
        help="OpenVINO: executions side by side (default: 1 in f32, else as many as it suggests for the threads)",
    )
    option("--batch_size", type=cli.integer(1), default=1, metavar="N", help="with an .onnx that has attention_mask")
    cli.add_threads_option(parser)
    return parser.parse_args(argv)


def conditions(args: argparse.Namespace, engine: Engine, inputs: Inputs) -> run_folder.Run:
    """What a reader of the figures must know; a run may be resumed only under the same conditions."""
    data = run_folder.read_run(args.input_info_file_path.parent)  # has a checksum of the tensors
    return run_folder.Run(
        SCRIPT,
        model=str(args.model_path),
        model_sha256=file_digest(args.model_path),
        inputs_sha256=results.inputs_digest(inputs, with_times=data is None),
        **engine.conditions._asdict(),
        sync_infer=args.sync_infer,
        cpu_run=args.cpu_run,
        input_dtypes=",".join(dtype.name for dtype in args.input_dtypes),
        res_save_type=args.res_save_type,
        warm_up=args.warm_up,
        data=data,
    )


def infer(
    engine: Engine, inputs: Inputs, dtypes: Sequence[np.dtype], store: results.Store
) -> Generator[str, None, None]:
    """Infer the utterances, reading ahead of the engine and writing after it. Yields each key when it is computed."""

    def utterances() -> Iterator[list[np.ndarray]]:
        for entries in inputs.values():
            arrays = manifest.read_arrays(entries, dtypes)
            yield [array.astype(spec.dtype, copy=False) for array, spec in zip(arrays, engine.inputs)]

    with WriteBehind(store) as writer, closing(read_ahead(utterances())) as ahead:
        for (result, latency), key in zip(timed(engine.stream(ahead)), inputs):
            writer.put(key, result.outputs, latency)
            yield key


def infer_all(engine: Engine, inputs: Inputs, dtypes: Sequence[np.dtype], folder: Path, res_save_type: str) -> None:
    """Infer the utterances into `folder`, with a progress bar if there is a terminal."""
    from tqdm import tqdm

    with (
        results.Store(folder, res_save_type) as store,
        closing(infer(engine, inputs, dtypes, store)) as computed,
    ):
        for _ in tqdm(computed, total=len(inputs), unit="utterance", disable=None):
            pass


def write_times(folder: Path, inputs: Inputs, references: References | None, warm_up: int) -> str:
    """Write infer_time.txt from the journal, in the manifest's order; returns its text."""
    finished = read_journal(folder)
    manifest.check_same_keys(inputs, finished, f"{folder}: results")
    lengths_s = None if references is None else [references[key].num_samples / SAMPLE_RATE for key in inputs]
    text = format_figures(summarise([finished[key].latency for key in inputs], warm_up, lengths_s))
    write_text(folder / INFER_TIME_NAME, text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder, manifest_path = args.infer_res_save_path, args.input_info_file_path
    if manifest_path.parent.resolve() == folder.resolve():
        raise SuiteError(f"{folder}: holds the manifest, and results would replace it; choose another folder")
    run_folder.check_replaceable(folder, SCRIPT, results.replaceable_names(folder))
    inputs = manifest.read_manifest(manifest_path)
    manifest.check_tensors(manifest_path, inputs, args.input_dtypes)
    references = manifest.references_beside(manifest_path, inputs)
    check_warm_up(args.warm_up, len(inputs))

    with locked(folder):
        with open_engine(
            args.model_path,
            num_threads=args.num_threads,
            batch_size=args.batch_size,
            engine=args.engine,
            precision=args.precision,
            in_flight=args.in_flight,
            device_id=args.device_id,
            sync_infer=args.sync_infer,
            cpu_run=args.cpu_run,
        ) as engine:
            engine.check_dtypes(args.input_dtypes)
            engine.check_shapes({key: [entry.shape for entry in entries] for key, entries in inputs.items()})
            run = conditions(args, engine, inputs)
            # Checked again: files may have appeared before the folder was locked.
            run_folder.check_replaceable(folder, SCRIPT, results.replaceable_names(folder))
            kept = results.begin(folder, run, inputs, references, args.resume)
            if args.resume:
                print(f"resumed: {len(kept)} of {len(inputs)} results are kept")
            missing = {key: entries for key, entries in inputs.items() if key not in kept}
            infer_all(engine, missing, args.input_dtypes, folder, args.res_save_type)
        text = write_times(folder, inputs, references, args.warm_up)
    print(f"{run.engine} on {run.device}, {run.precision}", text, sep="\n", end="")
    print(f"written: {folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
