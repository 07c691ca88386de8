#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn LibriSpeech audio into the model's input files.

Every utterance is decoded, normalised as the model's feature extractor says, zero-padded to the smallest gear that
holds it, and written as <k>.bin (float32, shape (1, T)), k = 0, 1, 2 … in data set order. The same folder gets
padding_lens.txt (the gears in use), utterances.tsv (ids, true lengths, references) and, last, the manifest
bin_file.info. While the manifest is missing, the folder is not complete.

    python preprocess.py --pre_data_save_path=./pre_data/clean --which_dataset=clean
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval import cli
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.machine.workers import WorkerKilled, run_in_processes

if TYPE_CHECKING:
    from wav2vec2_eval.files.data_folder import Preprocessed
    from wav2vec2_eval.sources.base import Dataset
    from wav2vec2_eval.speech.feature_extractor import FeatureExtractor

SCRIPT = Path(__file__).name


class Job(NamedTuple):
    """What a worker needs to preprocess any utterance of the data set."""

    dataset: Dataset
    extractor: FeatureExtractor
    gears: tuple[int, ...] | None
    attention_mask: bool
    folder: Path


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--pre_data_save_path", required=True, metavar="FOLDER", help="where the files are written")
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    parser.add_argument(
        "--gears",
        type=cli.checked(cli.parse_gears),
        default="default",
        help="lengths to pad to: 'default' (10000, 20000 … 560000), numbers with commas, a file with one number a "
        "line, or 'none' (no padding, for CPU engines)",
    )
    parser.add_argument(
        "--attention_mask",
        action="store_true",
        help="also write <k>.mask.bin, 1 at real samples and 0 at the padding: the second input of a masked model",
    )
    parser.add_argument("--num_workers", metavar="N", type=cli.integer(1), default=default_threads(), help="processes")
    return parser.parse_args(argv)


def preprocess_utterance(job: Job, index: int) -> Preprocessed:
    """Write utterance `index` as tensor files. Raises SuiteError, naming the utterance, if it cannot be used."""
    from wav2vec2_eval.files import data_folder
    from wav2vec2_eval.sources.model_input import model_input
    from wav2vec2_eval.speech.padding import attention_mask

    num_samples, samples = model_input(job.dataset, index, job.extractor, job.gears)
    arrays = [samples]
    if job.attention_mask:
        arrays.append(attention_mask(num_samples, samples.shape[1]))
    return data_folder.write_tensors(job.folder, index, num_samples, arrays)


def preprocess_all(job: Job, num_workers: int) -> list[Preprocessed]:
    """Preprocess every utterance, with a progress bar if there is a terminal (otherwise stderr has only errors)."""
    from tqdm import tqdm

    from wav2vec2_eval.errors import SuiteError

    count = len(job.dataset)
    try:
        # The workers end before the folder that they write into is removed.
        with closing(run_in_processes(preprocess_utterance, job, count, num_workers)) as items:
            return list(tqdm(items, total=count, unit="utterance", disable=None))
    except WorkerKilled:
        raise SuiteError("a worker process was killed, perhaps for memory; try a smaller --num_workers") from None


def print_summary(items: Sequence[Preprocessed], padded: bool, manifest_path: Path) -> None:
    """Utterances, hours, gears and padding."""
    from wav2vec2_eval.files.data_folder import gears_in_use
    from wav2vec2_eval.speech.audio import SAMPLE_RATE

    true, total = sum(item.num_samples for item in items), sum(item.padded_length for item in items)
    gears = gears_in_use(items)
    used = f"{len(gears)} gears used, {gears[0]} to {gears[-1]} samples" if padded else "not padded"
    print(f"{len(items)} utterances, {true / SAMPLE_RATE / 3600:.3f} hours of audio")
    print(f"{used}, padding added: {100 * (total / true - 1):.1f} %")
    print(f"written: {manifest_path}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.files import data_folder
    from wav2vec2_eval.files.locks import locked
    from wav2vec2_eval.files.manifest import Utterance
    from wav2vec2_eval.files.names import MANIFEST_NAME, STAGING_NAME
    from wav2vec2_eval.files.run_folder import Run, check_replaceable, staging
    from wav2vec2_eval.machine.signals import signals_deferred
    from wav2vec2_eval.sources.choose import open_dataset
    from wav2vec2_eval.sources.model_folder import feature_extractor

    folder = Path(args.pre_data_save_path)
    check_replaceable(folder, SCRIPT, data_folder.replaceable_names(folder))
    extractor = feature_extractor(args.model_name_or_path)
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
    run = Run(
        SCRIPT,
        which_dataset=args.which_dataset,
        dataset_path=args.dataset_path,
        model=args.model_name_or_path,
        padded=args.gears is not None,
        attention_mask=args.attention_mask,
    )
    with locked(folder), staging(folder, SCRIPT, STAGING_NAME) as staged:
        items = preprocess_all(Job(dataset, extractor, args.gears, args.attention_mask, staged), args.num_workers)
        utterances = [
            Utterance(str(index), dataset.ids[index], item.num_samples, dataset.texts[index])
            for index, item in enumerate(items)
        ]
        with signals_deferred():
            data_folder.publish(folder, args.pre_data_save_path, utterances, items, run)
    print_summary(items, args.gears is not None, folder / MANIFEST_NAME)
    return 0


if __name__ == "__main__":
    cli.run(main)
