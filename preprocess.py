#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn audio, LibriSpeech's or your own, into the model's input files.

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

from wav2vec2_eval.files.names import LAYOUTS, SKIPPED_NAME
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.machine.progress import track
from wav2vec2_eval.machine.terminal import say
from wav2vec2_eval.machine.workers import WorkerKilled, run_in_processes

if TYPE_CHECKING:
    from wav2vec2_eval.files.data_folder import Preprocessed, Skipped, Totals
    from wav2vec2_eval.sources.base import Dataset
    from wav2vec2_eval.sources.model_input import Preparation
    from wav2vec2_eval.speech.chunks import Chunking

SCRIPT = Path(__file__).name
MOST_SHOWN = 10  # of the utterances that are left out
SAMPLED = 100  # of the utterances, to estimate the disk space


class Job(NamedTuple):
    """What a worker needs to preprocess any utterance of the data set."""

    dataset: Dataset
    how: Preparation
    attention_mask: bool
    folder: Path
    layout: str
    skip_unusable: bool


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "--pre_data_save_path", required=True, type=cli.path_text, metavar="FOLDER", help="where the files are written"
    )
    cli.add_dataset_options(parser)
    cli.add_recording_options(parser)
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
    cli.add_quiet_option(parser)
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


def preprocess_utterance(job: Job, index: int) -> Preprocessed | Skipped:
    """Write utterance `index` as tensor files. Raises Unusable if it cannot be used and is not to be skipped."""
    from wav2vec2_eval.errors import Unusable
    from wav2vec2_eval.files import data_folder
    from wav2vec2_eval.files.names import chunk_key
    from wav2vec2_eval.files.utterances import new_utterance
    from wav2vec2_eval.sources.model_input import model_inputs
    from wav2vec2_eval.speech.padding import attention_mask

    dataset, key, parts, num_samples = job.dataset, str(index), [], 0
    try:
        for number, start, length, samples in model_inputs(dataset, index, job.how):
            arrays = [samples, attention_mask(length, samples.shape[1])] if job.attention_mask else [samples]
            part_key = chunk_key(key, number)
            parts.append(data_folder.write_tensors(job.folder, part_key, length, arrays, job.layout))
            num_samples = start + length
    except Unusable as error:
        for name in (name for part in parts for name in part.contents):
            (job.folder / name).unlink()
        if not job.skip_unusable:
            raise error.with_remedy() from None
        return data_folder.Skipped(key, dataset.ids[index], str(error))
    utterance = new_utterance(key, dataset.ids[index], num_samples, dataset.texts[index])
    return data_folder.Preprocessed(utterance, parts, *dataset.source_format(index))


def preprocess_all(job: Job, num_workers: int) -> Generator[Preprocessed | Skipped, None, None]:
    """Preprocess every utterance, and show the progress."""
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.data_folder import Preprocessed
    from wav2vec2_eval.speech.audio import SAMPLE_RATE

    def audio_s(item: Preprocessed | Skipped) -> float:
        return item.utterance.num_samples / SAMPLE_RATE if isinstance(item, Preprocessed) else 0

    count = len(job.dataset)
    try:
        # The workers end before the folder that they write into is removed.
        with closing(run_in_processes(preprocess_utterance, job, count, num_workers)) as items:
            yield from track(items, count, audio_s)
    except WorkerKilled:
        raise SuiteError("a worker process was killed, perhaps for memory; try a smaller --num_workers") from None


def say_summary(totals: Totals, padded: bool, chunking: Chunking | None, manifest_path: Path) -> None:
    """Gears and padding, and what was done to the recordings."""
    from wav2vec2_eval.speech.audio import SAMPLE_RATE

    gears, count = totals.gears, totals.utterances
    used = f"{len(gears)} gears used, {min(gears)} to {max(gears)} samples" if padded else "not padded"
    if totals.unscored:
        say(f"{totals.unscored} of {count} have no reference: they are transcribed and not scored")
    for rate in sorted(set(totals.rates) - {SAMPLE_RATE}):
        say(f"{totals.rates[rate]} of {count} resampled from {rate} Hz")
    for channels in sorted(set(totals.channels) - {1}):
        say(f"{totals.channels[channels]} of {count} mixed down from {channels} channels")
    if totals.chunked and chunking is not None:
        say(f"{totals.chunked} of {count} cut into chunks: {chunking}")
    for skipped in totals.skipped[:MOST_SHOWN]:
        print(f"left out: {skipped.reason}")
    if len(totals.skipped) > MOST_SHOWN:
        print(f"left out: {len(totals.skipped) - MOST_SHOWN} more, see {manifest_path.with_name(SKIPPED_NAME)}")
    say(f"{used}, padding added: {100 * (totals.padded_samples / totals.input_samples - 1):.1f} %")
    say(f"written: {manifest_path}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.files import ais_bench, data_folder
    from wav2vec2_eval.files.folder import output_folder
    from wav2vec2_eval.files.model_record import ModelRecord
    from wav2vec2_eval.files.names import MANIFEST_NAME
    from wav2vec2_eval.files.run import Run
    from wav2vec2_eval.sources.choose import check_paths, open_dataset
    from wav2vec2_eval.sources.model_folder import feature_extractor, symbols
    from wav2vec2_eval.sources.model_input import Preparation, sampled_lengths
    from wav2vec2_eval.sources.recording_table import Columns
    from wav2vec2_eval.speech.audio import SAMPLE_RATE
    from wav2vec2_eval.speech.readable import format_size

    path, model, chunking = Path(args.pre_data_save_path), args.model_name_or_path, cli.chunking(args)
    check_paths(args.which_dataset, args.dataset_path, model)
    with output_folder(path, SCRIPT) as folder:
        record = ModelRecord(model, feature_extractor(model), symbols(model, args.target_lang))
        columns = Columns(args.audio_column, args.text_column)
        dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit, columns, args.skip_unusable)
        run = Run(
            SCRIPT,
            which_dataset=args.which_dataset,
            dataset_path=args.dataset_path,
            model=model,
            padded=args.gears is not None,
            attention_mask=args.attention_mask,
            chunk_samples=chunking and chunking.chunk,
            stride_samples=chunking and chunking.stride,
        )
        how = Preparation(record.extractor, args.gears, chunking)
        sampled = sampled_lengths(dataset, how, SAMPLED)
        data_folder.check_space(path, sampled, len(dataset), 1 + args.attention_mask)
        with folder.staging() as staged:
            job = Job(dataset, how, args.attention_mask, staged.path, args.layout, args.skip_unusable)
            with closing(preprocess_all(job, args.num_workers)) as items:
                totals = data_folder.stage(staged, args.pre_data_save_path, items, run, record)
            data_folder.publish(folder, staged, SCRIPT)
    say_summary(totals, args.gears is not None, chunking, path / MANIFEST_NAME)
    if args.layout == "ais_bench":
        say(ais_bench.commands(args.pre_data_save_path, totals.gears, args.attention_mask).rstrip())
    speech_s = totals.num_samples / SAMPLE_RATE
    print(f"{totals.utterances} utterances, {speech_s:.1f} s of speech, {format_size(totals.num_bytes)}")
    return 0


if __name__ == "__main__":
    cli.run(main)
