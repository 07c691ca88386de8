#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the model over preprocessed utterances, and time it.

Reads the manifest that preprocess.py wrote, and writes each output i of utterance k as <k>.<i>.bin (or .npy), then
infer_time.txt. The results folder also keeps results.tsv (shape, type and time of each finished utterance), copies of
what scoring needs, and run.json (the conditions). The engine follows from the model file: .om runs on an Ascend NPU,
.onnx on this host's CPU.

    python pyacl_infer.py --model_path=./models/wav2vec2-base-960h.om \\
        --input_info_file_path=./pre_data/clean/bin_file.info --infer_res_save_path=./om_infer_res_clean
    python pyacl_infer.py --model_path=./models/wav2vec2-base-960h.om --check_device     # the first try on a host
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import cli

# isort: split

import argparse
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval.engines import trial
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.clock import MeasureTime, timed
from wav2vec2_eval.engines.model_file import conversion_folder, model_digest
from wav2vec2_eval.engines.precision import CPU_ENGINES, CPU_PRECISIONS, parse_precision
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import results
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.folder import OutputFolder, output_folder
from wav2vec2_eval.files.journal import read_journal
from wav2vec2_eval.files.manifest import check_same_keys, open_manifest
from wav2vec2_eval.files.model_record import agreed, read_record, record_of_model
from wav2vec2_eval.files.names import INFER_TIME_NAME, MANIFEST_NAME
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.files.tensors import DTYPE, parse_dtypes
from wav2vec2_eval.machine.overlap import Spent, WriteBehind, read_ahead
from wav2vec2_eval.machine.progress import track
from wav2vec2_eval.machine.terminal import say
from wav2vec2_eval.speech.audio import SAMPLE_RATE, frame_count
from wav2vec2_eval.speech.latency import check_warm_up, format_figures, summarise
from wav2vec2_eval.speech.readable import format_speed

if TYPE_CHECKING:
    import numpy as np

    from wav2vec2_eval.engines.base import Engine
    from wav2vec2_eval.files.manifest import Manifest
    from wav2vec2_eval.files.model_record import ModelRecord
    from wav2vec2_eval.files.utterances import References

__all__ = ["DTYPE", "MeasureTime", "main"]

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    option = parser.add_argument
    option("--model_path", required=True, type=cli.path, metavar="FILE", help=".om or .om2 for an NPU, .onnx for a CPU")
    option("--device_id", type=cli.integer(0, cli.LAST_DEVICE), default=0, metavar="N", help="NPU; not used by the CPU")
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
    manifest = option(
        "--input_info_file_path", required=True, type=cli.path, metavar="FILE", help="manifest from preprocess.py"
    )
    option(
        "--input_dtypes",
        type=cli.checked(parse_dtypes),
        default="float32",
        metavar="NAMES",
        help=f"one per model input, with commas between: {' '.join(DTYPE)}",
    )
    folder = option(
        "--infer_res_save_path", required=True, type=cli.path, metavar="FOLDER", help="where results are written"
    )
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
        type=cli.integer(1, cli.MOST_AT_ONCE),
        metavar="N",
        help="OpenVINO: executions side by side (default: 1 in f32, else as many as it suggests for the threads)",
    )
    option(
        "--batch_size",
        type=cli.integer(1, cli.MOST_AT_ONCE),
        default=1,
        metavar="N",
        help="with an .onnx that has attention_mask",
    )
    cli.add_threads_option(parser)
    cli.add_quiet_option(parser)
    option(
        "--check_device",
        action=cli.Instead,
        replaced=(manifest, folder),
        help="instead of a run: print what this host, its device and the model are, and infer one silent utterance",
    )
    args = parser.parse_args(argv)
    if args.check_device and (args.input_info_file_path or args.infer_res_save_path):
        parser.error("--check_device takes neither --input_info_file_path nor --infer_res_save_path")
    return args


def opened(args: argparse.Namespace) -> Engine:
    """The engine that the model needs, with the options of the command line."""
    return open_engine(
        args.model_path,
        num_threads=args.num_threads,
        batch_size=args.batch_size,
        engine=args.engine,
        precision=args.precision,
        in_flight=args.in_flight,
        device_id=args.device_id,
        sync_infer=args.sync_infer,
        cpu_run=args.cpu_run,
    )


def check_device(args: argparse.Namespace) -> None:
    """Print what is known of host, device and model, each fact as soon as it is known; then infer silence."""

    def show(facts: Mapping[str, str]) -> None:
        for label, text in facts.items():
            say(f"{label}: {text}")  # at once: a driver may end this process at the next step

    show(trial.host_facts(args.model_path))
    with opened(args) as engine:
        show(engine.facts())
        show({"model": str(args.model_path), **trial.model_facts(engine)})
        result, num_samples = trial.infer_silence(engine)
        show(trial.result_facts(result))
    print(f"the device works: {engine.conditions.device} inferred {num_samples} samples of silence")


def conditions(args: argparse.Namespace, engine: Engine, inputs: Manifest, digest: str) -> Run:
    """What a reader of the figures must know; a run may be resumed only under the same conditions."""
    return Run(
        SCRIPT,
        model=str(args.model_path),
        model_sha256=model_digest(args.model_path),
        inputs_sha256=digest,
        **engine.conditions._asdict(),
        sync_infer=args.sync_infer,
        cpu_run=args.cpu_run,
        input_dtypes=",".join(dtype.name for dtype in args.input_dtypes),
        res_save_type=args.res_save_type,
        warm_up=args.warm_up,
        data=inputs.source.run,
    )


def check_agreed(args: argparse.Namespace, engine: Engine, inputs: Manifest) -> ModelRecord | None:
    """What is known of the model. Raises SuiteError if the data were made for another model than the one that runs."""
    of_model = record_of_model(engine.metadata, str(args.model_path))
    return agreed({str(args.model_path): of_model, str(inputs.path.parent): read_record(inputs.source)})


class Job(NamedTuple):
    """The utterances to infer, and what is known of them."""

    inputs: Manifest
    keys: Sequence[str]
    dtypes: Sequence[np.dtype]
    references: References | None
    record: ModelRecord | None


def infer(engine: Engine, job: Job, store: results.Store, spent: Spent) -> Generator[str, None, None]:
    """Infer the utterances, reading ahead of the engine and writing after it. Yields each key when it is computed."""

    def utterances() -> Iterator[list[np.ndarray]]:
        for key in job.keys:
            yield engine.convert(key, job.inputs.read_arrays(key, job.dtypes))

    with WriteBehind(store, spent=spent) as writer, closing(read_ahead(utterances(), spent=spent)) as ahead:
        for (result, latency), key in zip(timed(engine.stream(ahead)), job.keys):
            if job.record is not None:
                frames = frame_count(job.inputs[key][0].shape[-1])
                num_symbols = len(job.record.symbols.table)
                results.check_logits(f"utterance {key}", result.outputs[0], num_symbols, frames, frames)
            writer.put(key, result.outputs, latency)
            yield key


def infer_all(engine: Engine, job: Job, folder: OutputFolder, res_save_type: str) -> Spent:
    """Infer the utterances into `folder`, and show the progress."""
    lengths = repeat(0) if job.references is None else job.inputs.parts.new_samples(job.keys, job.references)
    spent = Spent()
    with results.Store(folder, res_save_type) as store, closing(infer(engine, job, store, spent)) as computed:
        for _ in track(zip(computed, lengths), len(job.keys), lambda item: item[1] / SAMPLE_RATE):
            pass
    return spent


def check_space(folder: Path, job: Job, res_save_type: str) -> None:
    """Raise SuiteError unless there is room for the outputs. Their size is not known of a model without a record."""
    if job.record is not None:
        lengths = (job.inputs[key][0].shape[-1] for key in job.keys)
        results.check_space(folder, lengths, len(job.record.symbols.table), res_save_type)


def write_times(
    folder: OutputFolder, inputs: Manifest, references: References | None, warm_up: int, spent: Spent | None
) -> Mapping[str, float]:
    """Write infer_time.txt from the journal, in the manifest's order; returns its figures.

    `spent` is of all utterances; None if some were inferred by another run.
    """
    finished = read_journal(Source(folder.path))
    check_same_keys(inputs, finished, f"{folder.path}: results")
    lengths_s = None
    if references is not None:
        lengths_s = [samples / SAMPLE_RATE for samples in inputs.parts.new_samples(inputs, references)]
    figures = summarise([finished[key].latency for key in inputs], warm_up, lengths_s)
    figures.update({} if spent is None else spent.figures())
    folder.write_text(INFER_TIME_NAME, format_figures(figures))
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.check_device:
        check_device(args)
        return 0
    path, manifest_path = args.infer_res_save_path, args.input_info_file_path
    if os.path.realpath(manifest_path.parent) == os.path.realpath(path):
        raise SuiteError(f"{path}: holds the manifest, and results would replace it; choose another folder")
    if os.path.realpath(conversion_folder(args.model_path)) == os.path.realpath(path):
        raise SuiteError(f"{path}: is kept for what engines make of {args.model_path}; choose another folder")
    if manifest_path.is_dir():
        raise SuiteError(f"{manifest_path}: expected a manifest, found a folder; give {MANIFEST_NAME} in it")
    with open_manifest(manifest_path) as inputs, output_folder(path, SCRIPT) as folder:
        references = inputs.references()
        check_warm_up(args.warm_up, len(inputs))
        with opened(args) as engine:
            engine.check_dtypes(args.input_dtypes)
            digest = inputs.check_tensors(args.input_dtypes, engine.check_shapes)
            record = check_agreed(args, engine, inputs)
            first = next(iter(inputs))
            engine.convert(first, inputs.read_arrays(first, args.input_dtypes))  # before earlier results are replaced
            run = conditions(args, engine, inputs, digest)
            job = Job(inputs, list(inputs), args.input_dtypes, references, record)
            if not args.resume:
                check_space(path, job, args.res_save_type)
            kept = results.begin(folder, run, inputs, references, record, args.resume)
            if args.resume:
                say(f"resumed: {len(kept)} of {len(inputs)} results are kept")
                job = job._replace(keys=[key for key in inputs if key not in kept])
                check_space(path, job, args.res_save_type)
            say(str(engine.conditions))
            spent = infer_all(engine, job, folder, args.res_save_type)
        figures = write_times(folder, inputs, references, args.warm_up, None if kept else spent)
    say(f"written: {path}")
    print(format_speed(figures))
    return 0


if __name__ == "__main__":
    cli.run(main, hint="--resume continues")
