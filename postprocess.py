#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decode the model's outputs and score them against the references.

Reads the results folder of pyacl_infer.py, which carries the references of preprocess.py, and writes transcriptions.txt
(one line per utterance, in data set order), with wer.txt and utterance_scores.tsv beside it.

    python postprocess.py --bin_file_path=./om_infer_res_clean \\
        --res_save_path=./om_infer_res_clean/transcriptions.txt --which_dataset=clean
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_eval import cli

if TYPE_CHECKING:
    from wav2vec2_eval.files.manifest import References, Utterance
    from wav2vec2_eval.speech.ctc import Symbols

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--bin_file_path", required=True, type=Path, metavar="FOLDER", help="results of pyacl_infer.py")
    parser.add_argument("--res_save_path", required=True, type=Path, metavar="FILE", help="transcriptions to write")
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    return parser.parse_args(argv)


def read_references(args: argparse.Namespace) -> dict[str, Utterance]:
    """The utterances of the results: from the folder's own utterances.tsv, or else from the data set, in its order."""
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.manifest import Utterance, read_utterances
    from wav2vec2_eval.files.names import UTTERANCES_NAME
    from wav2vec2_eval.files.run_folder import read_run
    from wav2vec2_eval.sources.choose import open_dataset

    run = read_run(args.bin_file_path)
    made_from = run and run.data and run.data.which_dataset
    if made_from not in (None, args.which_dataset):
        raise SuiteError(
            f"{args.bin_file_path}: its results are of --which_dataset={made_from}, not {args.which_dataset}"
        )
    path = args.bin_file_path / UTTERANCES_NAME
    if path.exists():
        return dict(list(read_utterances(path).items())[: args.limit])
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
    return {
        # Decoded for its length: results without a journal are checked against it.
        str(index): Utterance(str(index), utterance_id, len(dataset.waveform(index)), text)
        for index, (utterance_id, text) in enumerate(zip(dataset.ids, dataset.texts))
    }


def decode_all(folder: Path, references: References, symbols: Symbols) -> dict[str, str]:
    """Key -> transcript. Raises SuiteError if results are missing, left over, cut short or of another vocabulary."""
    from tqdm import tqdm

    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files import results
    from wav2vec2_eval.files.manifest import check_same_keys
    from wav2vec2_eval.speech.ctc import greedy_decode

    specs = results.first_outputs(folder, references, len(symbols.table))
    check_same_keys(references, results.result_keys(folder), f"{folder}: results")
    transcripts = {}
    for key in tqdm(references, unit="utterance", disable=None):
        logits = results.read_output(folder, key, 0, specs[key])
        if logits.ndim != 3 or logits.shape[0] != 1 or logits.shape[2] != len(symbols.table):
            raise SuiteError(
                f"{folder}: utterance {key} has logits of shape {logits.shape}, expected (1, frames, "
                f"{len(symbols.table)}) for the symbols of the model; see --model_name_or_path"
            )
        transcripts[key] = greedy_decode(logits[0], symbols, f"{folder}: utterance {key}")
    return transcripts


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.scores import check_output, write_scores
    from wav2vec2_eval.sources.model_folder import symbols

    if not args.bin_file_path.is_dir():
        raise SuiteError(
            f"{args.bin_file_path}: no such folder; expected the results of pyacl_infer.py, run that first"
        )
    check_output(args.res_save_path, SCRIPT, scored=args.bin_file_path)
    known = symbols(args.model_name_or_path)
    references = read_references(args)
    hypotheses = decode_all(args.bin_file_path, references, known)
    write_scores(args.res_save_path, references, hypotheses, SCRIPT)
    return 0


if __name__ == "__main__":
    cli.run(main)
