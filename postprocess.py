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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_eval import cli

if TYPE_CHECKING:
    from wav2vec2_eval.ctc import Symbols
    from wav2vec2_eval.manifest import Utterance

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
    from wav2vec2_eval import folders, librispeech, manifest
    from wav2vec2_eval.errors import SuiteError

    data = (folders.read_run(args.bin_file_path) or {}).get("data") or {}
    made_from = data.get("which_dataset", args.which_dataset)
    if made_from != args.which_dataset:
        raise SuiteError(
            f"{args.bin_file_path}: its results are of --which_dataset={made_from}, not {args.which_dataset}"
        )
    path = args.bin_file_path / manifest.UTTERANCES_NAME
    if path.exists():
        return dict(list(manifest.read_utterances(path).items())[: args.limit])
    dataset = librispeech.open_dataset(args.which_dataset, args.dataset_path, args.limit)
    return {
        # Decoded for its length: results without a journal are checked against it.
        str(index): manifest.Utterance(str(index), utterance_id, len(dataset.waveform(index)), text)
        for index, (utterance_id, text) in enumerate(zip(dataset.ids, dataset.texts))
    }


def decode_all(folder: Path, utterances: Mapping[str, Utterance], symbols: Symbols) -> dict[str, str]:
    """Key -> transcript. Raises SuiteError if results are missing, left over, cut short or of another vocabulary."""
    from tqdm import tqdm

    from wav2vec2_eval import ctc, manifest, results
    from wav2vec2_eval.errors import SuiteError

    specs = results.first_outputs(folder, utterances, len(symbols.table))
    manifest.check_same_keys(utterances, results.result_keys(folder), f"{folder}: results")
    transcripts = {}
    for key in tqdm(utterances, unit="utterance", disable=None):
        logits = results.read_output(folder, key, 0, specs[key])
        if logits.ndim != 3 or logits.shape[0] != 1 or logits.shape[2] != len(symbols.table):
            raise SuiteError(
                f"{folder}: utterance {key} has logits of shape {logits.shape}, expected (1, frames, "
                f"{len(symbols.table)}) for the symbols of the model; see --model_name_or_path"
            )
        transcripts[key] = ctc.greedy_decode(logits[0], symbols, f"{folder}: utterance {key}")
    return transcripts


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval import model_folder, scoring
    from wav2vec2_eval.errors import SuiteError

    if not args.bin_file_path.is_dir():
        raise SuiteError(
            f"{args.bin_file_path}: no such folder; expected the results of pyacl_infer.py, run that first"
        )
    scoring.check_output(args.res_save_path, SCRIPT, scored=args.bin_file_path)
    symbols = model_folder.symbols(args.model_name_or_path)
    utterances = read_references(args)
    hypotheses = decode_all(args.bin_file_path, utterances, symbols)
    scoring.report(args.res_save_path, utterances, hypotheses, SCRIPT)
    return 0


if __name__ == "__main__":
    cli.run(main)
