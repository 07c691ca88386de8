#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn LibriSpeech audio into the model's input files.

Every utterance is decoded, normalised as the model's feature extractor says, zero-padded to the smallest gear that
holds it, and written as <k>.bin (float32, shape (1, T)), k = 0, 1, 2 … in data set order. Beside them come
padding_lens.txt (the gears in use), utterances.tsv (ids, true lengths, references) and, last, the manifest
bin_file.info: while that is missing, the folder is not complete.

    python preprocess.py --pre_data_save_path=./pre_data/clean --which_dataset=clean
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval import audio, cli
from wav2vec2_eval.errors import SuiteError

if TYPE_CHECKING:
    from wav2vec2_eval.librispeech import Dataset
    from wav2vec2_eval.model_folder import FeatureExtractor

SCRIPT = Path(__file__).name
STAGING_NAME = ".partial"  # inside the output folder; its files are moved up when all are there


class Job(NamedTuple):
    """What a worker needs to preprocess any utterance of the data set."""

    dataset: Dataset
    extractor: FeatureExtractor
    gears: tuple[int, ...] | None
    attention_mask: bool
    folder: Path


class Preprocessed(NamedTuple):
    """What is known of an utterance whose tensors are written."""

    num_samples: int
    padded_length: int
    checksum: int  # CRC-32 of the tensors


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--pre_data_save_path", required=True, metavar="FOLDER", help="where the files are written")
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    parser.add_argument(
        "--gears",
        type=cli.checked(audio.parse_gears),
        default="default",
        help="lengths to pad to: 'default' (10000, 20000 … 560000), numbers with commas, a file with one number a "
        "line, or 'none' (no padding, for CPU engines)",
    )
    parser.add_argument(
        "--attention_mask",
        action="store_true",
        help="also write <k>.mask.bin, 1 at real samples and 0 behind them, the second input of a masked model",
    )
    parser.add_argument(
        "--num_workers", metavar="N", type=cli.integer(1), default=cli.default_threads(), help="processes"
    )
    return parser.parse_args(argv)


def tensor_names(index: int, attention_mask: bool) -> list[str]:
    """The names of an utterance's tensor files, in the model's input order."""
    return [f"{index}.bin", f"{index}.mask.bin"] if attention_mask else [f"{index}.bin"]


def preprocess_utterance(job: Job, index: int) -> Preprocessed:
    """Write utterance `index` as a tensor file. Raises SuiteError, naming the utterance, if it cannot be used."""
    import numpy as np

    from wav2vec2_eval import librispeech, tensors

    num_samples, samples = librispeech.model_input(job.dataset, index, job.extractor, job.gears)
    arrays = [samples]
    if job.attention_mask:
        arrays.append((np.arange(samples.shape[1]) < num_samples).astype(np.float32)[None])
    checksum = 0
    for name, array in zip(tensor_names(index, job.attention_mask), arrays):
        tensors.write_tensor(job.folder / name, array)
        checksum = zlib.crc32(array, checksum)
    return Preprocessed(num_samples, samples.shape[1], checksum)


def preprocess_all(job: Job, num_workers: int) -> Iterator[Preprocessed]:
    """Preprocess every utterance, in `num_workers` processes; yields in data set order."""
    indices = range(len(job.dataset.ids))
    if num_workers == 1 or len(indices) == 1:
        yield from (preprocess_utterance(job, index) for index in indices)
        return
    # Not forked: a fork of a process with threads (pyarrow, tqdm) may deadlock.
    context = multiprocessing.get_context("spawn")
    workers = min(num_workers, len(indices))
    chunk = max(1, min(16, len(indices) // (4 * workers)))
    # A signal in the midst of the executor's own code may leave its locks held, so it waits for the workers' end.
    with cli.signals_deferred() as noted:
        executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))
        try:
            # Ctrl-C reaches the whole process group; workers inherit that they leave it to their parent.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            results = executor.map(_work, indices, chunksize=chunk)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for result in results:
                if noted:
                    raise KeyboardInterrupt
                yield result
        except BrokenProcessPool:
            raise SuiteError("a worker process was killed, perhaps for memory; try a smaller --num_workers") from None
        finally:
            executor.shutdown(cancel_futures=True)


class _Worker:
    """A worker process's own copy of the job, sent once."""

    job: Job


def _start_worker(job: Job) -> None:
    _Worker.job = job
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on writing."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(index: int) -> Preprocessed:
    return preprocess_utterance(_Worker.job, index)


def own_names(folder: Path) -> Callable[[str], bool]:
    """A test for the names of files that an earlier run wrote into `folder`."""
    from wav2vec2_eval import folders, manifest

    count = (folders.read_run(folder) or {}).get("utterances", 0)
    others = {STAGING_NAME, manifest.GEARS_NAME, manifest.MANIFEST_NAME, manifest.UTTERANCES_NAME}

    def is_own(name: str) -> bool:
        match = re.fullmatch(r"(\d+)(?:\.mask)?\.bin", name, re.ASCII)
        return int(match[1]) < count if match else name in others

    return is_own


def publish(folder: Path, save_path: str, dataset: Dataset, items: Sequence[Preprocessed], conditions: dict) -> None:
    """Replace what an earlier run left in `folder` by the staged tensors; the manifest goes first and comes last."""
    from wav2vec2_eval import folders, manifest, tensors

    is_own = own_names(folder)
    folders.check_replaceable(folder, SCRIPT, is_own)  # again, for what came meanwhile
    staging = folder / STAGING_NAME
    (folder / manifest.MANIFEST_NAME).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path != staging and is_own(path.name.removesuffix(tensors.TEMPORARY_SUFFIX)):
            path.unlink()
    folders.write_run(folder, SCRIPT, **conditions)
    for path in staging.iterdir():
        path.rename(folder / path.name)
    staging.rmdir()

    gears = sorted({item.padded_length for item in items})
    utterances = [
        manifest.Utterance(str(index), dataset.ids[index], item.num_samples, dataset.texts[index])
        for index, item in enumerate(items)
    ]
    lines = [
        manifest.format_line(str(index), f"{save_path.rstrip('/')}/{name}", (1, item.padded_length))
        for index, item in enumerate(items)
        for name in tensor_names(index, conditions["attention_mask"])
    ]
    tensors.write_text(folder / manifest.GEARS_NAME, "".join(f"{gear}\n" for gear in gears))
    tensors.write_text(folder / manifest.UTTERANCES_NAME, manifest.format_utterances(utterances))
    tensors.write_text(folder / manifest.MANIFEST_NAME, "".join(f"{line}\n" for line in lines))


def print_summary(items: Sequence[Preprocessed], padded: bool, manifest_path: Path) -> None:
    """Utterances, hours, gears and padding."""
    true, total = sum(item.num_samples for item in items), sum(item.padded_length for item in items)
    gears = sorted({item.padded_length for item in items})
    used = f"{len(gears)} gears used, {gears[0]} to {gears[-1]} samples" if padded else "not padded"
    print(f"{len(items)} utterances, {true / audio.SAMPLE_RATE / 3600:.3f} hours of audio")
    print(f"{used}, padding added: {100 * (total / true - 1):.1f} %")
    print(f"written: {manifest_path}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from tqdm import tqdm

    from wav2vec2_eval import folders, librispeech, manifest, model_folder

    folder = Path(args.pre_data_save_path)
    folders.check_replaceable(folder, SCRIPT, own_names(folder))
    extractor = model_folder.feature_extractor(args.model_name_or_path)
    dataset = librispeech.open_dataset(args.which_dataset, args.dataset_path, args.limit)

    with folders.locked(folder), folders.staging(folder, SCRIPT, STAGING_NAME) as staging:
        job = Job(dataset, extractor, args.gears, args.attention_mask, staging)
        with closing(preprocess_all(job, args.num_workers)) as results:  # the workers end before the folder goes
            # Without a terminal there is no progress bar, so that stderr holds errors alone.
            items = list(tqdm(results, total=len(dataset.ids), unit="utterance", disable=None))
        conditions = {
            "which_dataset": args.which_dataset,
            "dataset_path": args.dataset_path,
            "model": args.model_name_or_path,
            "padded": args.gears is not None,
            "attention_mask": args.attention_mask,
            "utterances": len(items),
            "checksum": zlib.crc32(repr([item.checksum for item in items]).encode()),
        }
        with cli.signals_deferred():
            publish(folder, args.pre_data_save_path, dataset, items, conditions)
    print_summary(items, args.gears is not None, folder / manifest.MANIFEST_NAME)
    return 0


if __name__ == "__main__":
    cli.run(main)
