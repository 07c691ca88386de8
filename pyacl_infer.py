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
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_eval import cli, engines, folders, manifest, pipeline, results, tensors, timing
from wav2vec2_eval.audio import SAMPLE_RATE
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.tensors import DTYPE
from wav2vec2_eval.timing import MeasureTime

__all__ = ["DTYPE", "MeasureTime", "main"]

SCRIPT = Path(__file__).name
Utterances = Mapping[str, Sequence[manifest.Entry]]  # key -> the utterance's model inputs


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
        help="True: do not synchronise for the sake of the clock; False: synchronise the device before each reading",
    )
    option(
        "--sync_infer",
        type=cli.boolean,
        default=True,
        metavar="BOOL",
        help="NPU: True executes and waits, timed by the host; False keeps two utterances queued, timed by the "
        "device's events (with --cpu_run=False one, timed by the host); no difference on the CPU",
    )
    cli.add_workspace_option(parser, default=0)
    option("--input_info_file_path", required=True, type=Path, metavar="FILE", help="manifest from preprocess.py")
    option(
        "--input_dtypes",
        type=cli.checked(tensors.parse_dtypes),
        default="float32",
        metavar="NAMES",
        help=f"one per model input, with commas between: {' '.join(DTYPE)}",
    )
    option("--infer_res_save_path", required=True, type=Path, metavar="FOLDER", help="where results are written")
    option("--res_save_type", choices=("bin", "npy"), default="bin", help="raw tensors, or NumPy files")
    option("--resume", action="store_true", help="keep the finished results of an interrupted run, infer the rest")
    option("--engine", choices=engines.ENGINES, default="auto", help="CPU; auto: onnxruntime in f32, else openvino")
    option("--precision", choices=engines.PRECISIONS, default="f32", help="CPU; int8 needs a quantized model")
    option(
        "--in_flight",
        type=cli.integer(1),
        metavar="N",
        help="OpenVINO: executions side by side (default: 1 in f32, else as many as it suggests for the threads)",
    )
    option("--batch_size", type=cli.integer(1), default=1, metavar="N", help="with an .onnx that has attention_mask")
    option("--num_threads", type=cli.integer(1), default=cli.default_threads(), metavar="N", help="CPU threads")
    return parser.parse_args(argv)


def read_manifest(path: Path, dtypes: Sequence[np.dtype]) -> dict[str, list[manifest.Entry]]:
    """Read the manifest and check every tensor file's presence and size, so that a run does not end half way."""
    utterances = manifest.read_manifest(path)
    for key, entries in utterances.items():
        if len(entries) != len(dtypes):
            raise SuiteError(
                f"{path}: utterance {key} has {len(entries)} inputs, but --input_dtypes names {len(dtypes)}; "
                f"give one dtype for each input"
            )
        for entry, dtype in zip(entries, dtypes):
            tensors.check_size(entry.path, entry.shape, dtype, "run preprocess.py again")
    return utterances


def read_references(manifest_path: Path, utterances: Utterances) -> dict[str, manifest.Utterance] | None:
    """The utterances in utterances.tsv beside the manifest, which may hold more of them; None where there is none."""
    path = manifest_path.with_name(manifest.UTTERANCES_NAME)
    if not path.exists():
        return None
    known = manifest.read_utterances(path)
    references = {key: known[key] for key in utterances if key in known}
    manifest.check_same_keys(utterances, references, str(path))
    return references


def conditions(args: argparse.Namespace, engine: engines.Engine, utterances: Utterances) -> dict[str, Any]:
    """What a reader of the figures must know; a run may be resumed only under the same."""
    data = folders.read_run(args.input_info_file_path.parent)  # has a checksum of the tensors
    return {
        "model": str(args.model_path),
        "model_sha256": results.file_digest(args.model_path),
        "inputs_sha256": results.inputs_digest(utterances, with_times=data is None),
        **engine.conditions,
        "sync_infer": args.sync_infer,
        "cpu_run": args.cpu_run,
        "input_dtypes": ",".join(dtype.name for dtype in args.input_dtypes),
        "res_save_type": args.res_save_type,
        "warm_up": args.warm_up,
        "data": data,
    }


def infer(
    engine: engines.Engine, utterances: Utterances, dtypes: Sequence[np.dtype], store: results.Store
) -> Iterator[str]:
    """Infer the utterances, with reading ahead of the engine and writing behind it. Yields each key when computed."""

    def inputs() -> Iterator[list[np.ndarray]]:
        for entries in utterances.values():
            arrays = (tensors.read_bin(entry.path, entry.shape, dtype) for entry, dtype in zip(entries, dtypes))
            yield [array.astype(spec.dtype, copy=False) for array, spec in zip(arrays, engine.inputs)]

    with pipeline.WriteBehind(store) as writer, closing(pipeline.read_ahead(inputs())) as ahead:
        start_ns = time.perf_counter_ns()
        for result, key in zip(engine.stream(ahead), utterances):
            now_ns = time.perf_counter_ns()
            latency = timing.Latency(result.pure_ns / 1e6, (now_ns - start_ns) / 1e6, result.device_ms, result.own_ms)
            writer.put(key, result.outputs, latency)
            start_ns = now_ns
            yield key


def infer_all(
    engine: engines.Engine, utterances: Utterances, dtypes: Sequence[np.dtype], folder: Path, res_save_type: str
) -> None:
    """Infer the utterances into `folder`, behind a progress bar if there is a terminal."""
    from tqdm import tqdm

    with (
        results.Store(folder, res_save_type) as store,
        closing(infer(engine, utterances, dtypes, store)) as computed,
    ):
        for _ in tqdm(computed, total=len(utterances), unit="utterance", disable=None):
            pass


def summarise(
    folder: Path, utterances: Utterances, references: Mapping[str, manifest.Utterance] | None, warm_up: int
) -> str:
    """Write infer_time.txt from the journal, in the manifest's order; returns its text."""
    finished = results.read_finished(folder)
    manifest.check_same_keys(utterances, finished, f"{folder}: results")
    lengths_s = references and [references[key].num_samples / SAMPLE_RATE for key in utterances]
    text = timing.format_figures(timing.summarise([finished[key].latency for key in utterances], warm_up, lengths_s))
    tensors.write_text(folder / timing.INFER_TIME_NAME, text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = args.infer_res_save_path
    if args.input_info_file_path.parent.resolve() == folder.resolve():
        raise SuiteError(f"{folder}: holds the manifest, and results would replace it; choose another folder")
    folders.check_replaceable(folder, SCRIPT, results.own_names(folder))
    utterances = read_manifest(args.input_info_file_path, args.input_dtypes)
    references = read_references(args.input_info_file_path, utterances)
    timing.check_workspace(args.warm_up, len(utterances))

    with folders.locked(folder):
        with engines.open_engine(
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
            engines.check_inputs(engine, args.input_dtypes, utterances)
            run = conditions(args, engine, utterances)
            folders.check_replaceable(folder, SCRIPT, results.own_names(folder))  # again, now that nobody else writes
            kept = results.begin(folder, SCRIPT, run, utterances, references, args.resume)
            if args.resume:
                print(f"resumed: {len(kept)} of {len(utterances)} results are kept")
            waiting = {key: entries for key, entries in utterances.items() if key not in kept}
            infer_all(engine, waiting, args.input_dtypes, folder, args.res_save_type)
        text = summarise(folder, utterances, references, args.warm_up)
    print("{engine} on {device}, {precision}".format_map(engine.conditions), text, sep="\n", end="")
    print(f"written: {folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
