#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decode the model's outputs and score them against the references.

Reads the results folder of pyacl_infer.py, which carries the references of preprocess.py, and writes transcriptions.txt
(one line per utterance, in data set order), with wer.txt and utterance_scores.tsv beside it.

    python postprocess.py --bin_file_path=./om_infer_res_clean \\
        --res_save_path=./om_infer_res_clean/transcriptions.txt --which_dataset=clean
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import cli

# isort: split

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wav2vec2_eval.files.file_list import Source
    from wav2vec2_eval.files.manifest import References, Utterance
    from wav2vec2_eval.files.results import Results
    from wav2vec2_eval.speech.ctc import Symbols

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "--bin_file_path", required=True, type=cli.path, metavar="FOLDER", help="results of pyacl_infer.py"
    )
    parser.add_argument("--res_save_path", required=True, type=cli.path, metavar="FILE", help="transcriptions to write")
    cli.add_dataset_options(parser, required=False)
    cli.add_model_option(parser, default=None)
    return parser.parse_args(argv)


def read_symbols(args: argparse.Namespace, source: Source) -> Symbols:
    """The symbols of the model that made the results: what travelled with them, or else those of the named model."""
    from wav2vec2_eval import MODEL_ID
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.model_record import ModelRecord, agreed, read_record
    from wav2vec2_eval.sources.model_folder import feature_extractor, symbols

    model, travelled = args.model_name_or_path, read_record(source)
    if travelled is None and model is None:
        if source.run is not None:  # by default, guessing is left to results that say nothing
            raise SuiteError(f"{source.folder}: does not say which model's symbols it holds; give --model_name_or_path")
        model = MODEL_ID
    named = None if model is None else ModelRecord(model, feature_extractor(model), symbols(model))
    record = agreed({str(source.folder): travelled, f"--model_name_or_path={model}": named})
    assert record is not None
    return record.symbols


def read_references(args: argparse.Namespace, source: Source) -> References:
    """The utterances of the results: from the folder's own utterances.tsv, or else from the data set, in its order."""
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.manifest import new_utterance, read_utterances
    from wav2vec2_eval.files.names import UTTERANCES_NAME
    from wav2vec2_eval.sources.choose import open_dataset

    made_from = source.run and source.run.data and source.run.data.which_dataset
    if made_from is not None and args.which_dataset not in (None, made_from):
        raise SuiteError(f"{source.folder}: its results are of --which_dataset={made_from}, not {args.which_dataset}")
    if source.has(UTTERANCES_NAME):
        references = read_utterances(source.folder / UTTERANCES_NAME, source)
        return references if args.limit is None else dict(islice(references.items(), args.limit))
    if args.which_dataset is None:
        raise SuiteError(f"{source.folder}: has no {UTTERANCES_NAME}; give --which_dataset")
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
    return {
        # Decoded for its length: results are checked against it.
        str(index): new_utterance(str(index), utterance_id, len(dataset.waveform(index)), text)
        for index, (utterance_id, text) in enumerate(zip(dataset.ids, dataset.texts))
    }


def transcripts(results: Results, symbols: Symbols) -> Iterator[tuple[Utterance, str]]:
    """Each utterance with its transcript, with a progress bar if there is a terminal."""
    from tqdm import tqdm

    from wav2vec2_eval.speech.ctc import greedy_decode

    for utterance, logits in tqdm(results, total=len(results), unit="utterance", disable=None):
        yield utterance, greedy_decode(logits, symbols, f"{results.folder}: utterance {utterance.key}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.file_list import Source
    from wav2vec2_eval.files.locks import reading
    from wav2vec2_eval.files.results import Results, check_some
    from wav2vec2_eval.files.scores import scores_folder, write_scores

    path = args.bin_file_path
    if not path.is_dir():
        raise SuiteError(f"{path}: no such folder; expected the results of pyacl_infer.py, run that first")
    with scores_folder(args.res_save_path, SCRIPT, scored=path) as folder, ExitStack() as locks:
        if not folder.path.samefile(path):  # otherwise the scores' lock is that of the results, too
            locks.enter_context(reading(path))
        source = Source(path)
        check_some(source)
        symbols = read_symbols(args, source)
        results = Results(source, read_references(args, source), len(symbols.table))
        write_scores(folder, args.res_save_path.name, transcripts(results, symbols), SCRIPT)
    return 0


if __name__ == "__main__":
    cli.run(main)
