#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn LibriSpeech audio into the model's input files.

Every utterance is decoded, normalised as the model's feature extractor says, zero-padded to the smallest gear that
holds it, and written as <k>.bin (float32, shape (1, T)), k = 0, 1, 2 … in data set order. The same folder gets
padding_lens.txt (the gears in use), utterances.tsv (ids, true lengths, references) and, last, the manifest
bin_file.info. While the manifest is missing, the folder is not complete. --layout=ais_bench writes input/<k>.npy
instead, for Huawei's benchmark tool, and prints the commands that run and score it.

    python preprocess.py --pre_data_save_path=./pre_data/clean --which_dataset=clean
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import cli

# isort: split

import argparse
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval.files.names import LAYOUTS
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.machine.workers import WorkerKilled, run_in_processes

if TYPE_CHECKING:
    from wav2vec2_eval.files.data_folder import Preprocessed, Totals
    from wav2vec2_eval.files.manifest import Utterance
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
    layout: str


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "--pre_data_save_path", required=True, type=cli.path_text, metavar="FOLDER", help="where the files are written"
    )
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
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default=LAYOUTS[0],
        help="suite: <k>.bin and <k>.mask.bin; ais_bench: input/<k>.npy and attention_mask/<k>.npy, which that tool "
        "and pyacl_infer.py read",
    )
    parser.add_argument(
        "--num_workers",
        metavar="N",
        type=cli.integer(1, cli.MOST_AT_ONCE),
        default=default_threads(),
        help="processes",
    )
    args = parser.parse_args(argv)
    if args.layout == "ais_bench" and args.gears is None:
        parser.error(
            "--layout=ais_bench: ais_bench runs an .om, which takes no other lengths than its gears; give --gears"
        )
    if args.layout == "ais_bench" and "," in args.pre_data_save_path:
        parser.error(
            f"--pre_data_save_path: ais_bench separates paths by commas; expected a path without one, found "
            f"{args.pre_data_save_path!r:.80}"
        )
    return args


def preprocess_utterance(job: Job, index: int) -> Preprocessed:
    """Write utterance `index` as tensor files. Raises SuiteError, naming the utterance, if it cannot be used."""
    from wav2vec2_eval.files import data_folder
    from wav2vec2_eval.sources.model_input import model_input
    from wav2vec2_eval.speech.padding import attention_mask

    num_samples, samples = model_input(job.dataset, index, job.extractor, job.gears)
    arrays = [samples]
    if job.attention_mask:
        arrays.append(attention_mask(num_samples, samples.shape[1]))
    return data_folder.write_tensors(job.folder, index, num_samples, arrays, job.layout)


def preprocess_all(job: Job, num_workers: int) -> Generator[tuple[Utterance, Preprocessed], None, None]:
    """Preprocess every utterance, with a progress bar if there is a terminal (otherwise stderr has only errors)."""
    from tqdm import tqdm

    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.manifest import new_utterance

    dataset, count = job.dataset, len(job.dataset)
    try:
        # The workers end before the folder that they write into is removed.
        with closing(run_in_processes(preprocess_utterance, job, count, num_workers)) as items:
            for index, item in enumerate(tqdm(items, total=count, unit="utterance", disable=None)):
                yield new_utterance(str(index), dataset.ids[index], item.num_samples, dataset.texts[index]), item
    except WorkerKilled:
        raise SuiteError("a worker process was killed, perhaps for memory; try a smaller --num_workers") from None


def print_summary(totals: Totals, padded: bool, manifest_path: Path) -> None:
    """Utterances, hours, gears and padding."""
    from wav2vec2_eval.speech.audio import SAMPLE_RATE

    gears = totals.gears
    used = f"{len(gears)} gears used, {min(gears)} to {max(gears)} samples" if padded else "not padded"
    print(f"{totals.utterances} utterances, {totals.num_samples / SAMPLE_RATE / 3600:.3f} hours of audio")
    print(f"{used}, padding added: {100 * (totals.padded_samples / totals.num_samples - 1):.1f} %")
    print(f"written: {manifest_path}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.files import ais_bench, data_folder
    from wav2vec2_eval.files.folder import output_folder
    from wav2vec2_eval.files.model_record import ModelRecord
    from wav2vec2_eval.files.names import MANIFEST_NAME
    from wav2vec2_eval.files.run import Run
    from wav2vec2_eval.sources.choose import check_paths, open_dataset
    from wav2vec2_eval.sources.model_folder import feature_extractor, symbols

    path, model = Path(args.pre_data_save_path), args.model_name_or_path
    check_paths(args.dataset_path, model)
    with output_folder(path, SCRIPT) as folder:
        record = ModelRecord(model, feature_extractor(model), symbols(model, args.target_lang))
        dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
        run = Run(
            SCRIPT,
            which_dataset=args.which_dataset,
            dataset_path=args.dataset_path,
            model=model,
            padded=args.gears is not None,
            attention_mask=args.attention_mask,
        )
        with folder.staging() as staged:
            job = Job(dataset, record.extractor, args.gears, args.attention_mask, staged.path, args.layout)
            with closing(preprocess_all(job, args.num_workers)) as utterances:
                totals = data_folder.stage(staged, args.pre_data_save_path, utterances, run, record)
            data_folder.publish(folder, staged, SCRIPT)
    print_summary(totals, args.gears is not None, path / MANIFEST_NAME)
    if args.layout == "ais_bench":
        print(ais_bench.commands(args.pre_data_save_path, totals.gears, args.attention_mask), end="")
    return 0


if __name__ == "__main__":
    cli.run(main)
