#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decode the model's outputs and score them against the references.

Reads the results folder of pyacl_infer.py, which carries the references of preprocess.py, and writes transcriptions.txt
(one line per utterance, in data set order), with wer.txt and utterance_scores.tsv beside it. Results of Huawei's
benchmark tool ais_bench are read with the manifest of their data; infer_time.txt then has the times that it measured.

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
    from wav2vec2_eval.files.ais_bench import Files
    from wav2vec2_eval.files.file_list import Source
    from wav2vec2_eval.files.folder import OutputFolder
    from wav2vec2_eval.files.manifest import Manifest, References, Utterance
    from wav2vec2_eval.files.results import Logits
    from wav2vec2_eval.speech.ctc import Symbols

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "--bin_file_path",
        required=True,
        type=cli.path,
        metavar="FOLDER",
        help="results of pyacl_infer.py or ais_bench",
    )
    parser.add_argument("--res_save_path", required=True, type=cli.path, metavar="FILE", help="transcriptions to write")
    parser.add_argument(
        "--input_info_file_path",
        type=cli.path,
        metavar="FILE",
        help="the manifest of preprocess.py, or its folder, for results of another tool",
    )
    cli.add_dataset_options(parser, required=False)
    cli.add_model_option(parser, default=None)
    return parser.parse_args(argv)


def open_inputs(
    args: argparse.Namespace, source: Source | None, folder: OutputFolder, locks: ExitStack
) -> Manifest | None:
    """The manifest that the user names, kept from writers by `locks`; None if there is none.

    `source` is a folder of results in which it may be already; `folder`, that of the scores, is locked.
    """
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.manifest import Manifest, open_manifest
    from wav2vec2_eval.files.names import MANIFEST_NAME

    path = args.input_info_file_path
    if path is None:
        return None
    if source is not None and source.has(MANIFEST_NAME):
        raise SuiteError(f"{source.folder}: its results carry their manifest; leave --input_info_file_path out")
    path = path / MANIFEST_NAME if path.is_dir() else path
    if path.parent.exists() and folder.path.samefile(path.parent):
        return Manifest(path)
    return locks.enter_context(open_manifest(path))


def read_symbols(args: argparse.Namespace, source: Source | None) -> Symbols:
    """The symbols of the model that made the results: those that `source` has, or else those of the named model."""
    from wav2vec2_eval import MODEL_ID
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.model_record import ModelRecord, agreed, read_record
    from wav2vec2_eval.sources.model_folder import feature_extractor, symbols

    model, travelled = args.model_name_or_path, None if source is None else read_record(source)
    if model is None and args.target_lang is not None:
        raise SuiteError("--target_lang chooses among the languages of a model: give --model_name_or_path, too")
    if travelled is None and model is None:
        if source is not None and source.run is not None:  # by default, guessing is left to results that say nothing
            raise SuiteError(f"{source.folder}: does not say which model's symbols it holds; give --model_name_or_path")
        model = MODEL_ID
    named = None
    if model is not None:
        named = ModelRecord(model, feature_extractor(model), symbols(model, args.target_lang))
    place = str(args.bin_file_path if source is None else source.folder)
    record = agreed({place: travelled, f"--model_name_or_path={model}": named})
    assert record is not None
    return record.symbols


def read_references(args: argparse.Namespace, source: Source | None, inputs: Manifest | None) -> References:
    """The utterances of the results: those of the manifest or of `source`, or else the data set's, in its order."""
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.manifest import new_utterance, read_utterances
    from wav2vec2_eval.files.names import UTTERANCES_NAME
    from wav2vec2_eval.sources.choose import open_dataset

    run = None if source is None else source.run
    made_from = run and run.of_data.which_dataset
    if source is not None and made_from is not None and args.which_dataset not in (None, made_from):
        raise SuiteError(f"{source.folder}: its results are of --which_dataset={made_from}, not {args.which_dataset}")
    references: References | None = None
    if inputs is not None:
        known = inputs.references()
        if known is not None:
            references = known if known.has_keys_of(inputs) else {key: known[key] for key in inputs}
    elif source is not None and source.has(UTTERANCES_NAME):
        references = read_utterances(source.folder / UTTERANCES_NAME, source)
    if references is not None:
        return references if args.limit is None else dict(islice(references.items(), args.limit))
    if args.which_dataset is None:
        place = args.bin_file_path if source is None else source.folder
        remedy = "--which_dataset" if inputs is not None else "--which_dataset or --input_info_file_path"
        raise SuiteError(f"{place}: has no {UTTERANCES_NAME}; give {remedy}")
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
    return {
        # Decoded for its length: results are checked against it.
        str(index): new_utterance(str(index), utterance_id, len(dataset.waveform(index)), text)
        for index, (utterance_id, text) in enumerate(zip(dataset.ids, dataset.texts))
    }


def transcripts(results: Logits, symbols: Symbols) -> Iterator[tuple[Utterance, str]]:
    """Each utterance with its transcript, with a progress bar if there is a terminal."""
    from tqdm import tqdm

    from wav2vec2_eval.speech.ctc import greedy_decode

    for utterance, logits in tqdm(results, total=len(results), unit="utterance", disable=None):
        yield utterance, greedy_decode(logits, symbols, f"{results.folder}: utterance {utterance.key}")


def score_ais_bench(
    folder: OutputFolder,
    name: str,
    files: Files,
    pairs: Iterator[tuple[Utterance, str]],
    references: References,
    source: Source | None,
) -> None:
    """Write the scores of results of ais_bench and, if it left its times, infer_time.txt."""
    from wav2vec2_eval.files.ais_bench import ENGINE, read_times
    from wav2vec2_eval.files.names import INFER_TIME_NAME
    from wav2vec2_eval.files.run import Run
    from wav2vec2_eval.files.scores import write_scores
    from wav2vec2_eval.speech.audio import SAMPLE_RATE
    from wav2vec2_eval.speech.latency import format_figures, summarise

    latencies, reason = read_times(files)
    run = None if source is None else source.run
    write_scores(folder, name, pairs, SCRIPT, inference=Run(SCRIPT, engine=ENGINE, data=run and run.of_data))
    if not latencies:
        print(f"no times: {reason}")
        return
    # The order does not matter: all times count, and all lengths.
    lengths_s = [references[key].num_samples / SAMPLE_RATE for key in references]
    text = format_figures(summarise(latencies, lengths_s=lengths_s))
    folder.write_text(INFER_TIME_NAME, text)
    print(f"{ENGINE}\n{text}", end="")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files import ais_bench
    from wav2vec2_eval.files.file_list import Source
    from wav2vec2_eval.files.locks import reading
    from wav2vec2_eval.files.results import Results, check_some
    from wav2vec2_eval.files.scores import scores_folder, write_scores

    path, name = args.bin_file_path, args.res_save_path.name
    if not path.is_dir():
        raise SuiteError(f"{path}: no such folder; expected the results of pyacl_infer.py, run that first")
    files = ais_bench.find(path)
    if files is not None and (args.input_info_file_path, args.which_dataset) == (None, None):
        raise SuiteError(f"{path}: results of ais_bench have no references; give --input_info_file_path of their data")
    scored = path if files is None else None  # beside results of ais_bench, which no script owns, there are only scores
    with scores_folder(args.res_save_path, SCRIPT, scored=scored) as folder, ExitStack() as locks:
        if not folder.path.samefile(path):  # otherwise the scores' lock is that of the results, too
            locks.enter_context(reading(path))
        source = None
        if files is None:
            source = Source(path)
            check_some(source)
        inputs = open_inputs(args, source, folder, locks)
        carrier = source if inputs is None else inputs.source
        symbols = read_symbols(args, carrier)
        references = read_references(args, carrier, inputs)
        if files is not None:
            logits = ais_bench.AisBenchResults(path, files, references, len(symbols.table), inputs)
            score_ais_bench(folder, name, files, transcripts(logits, symbols), references, carrier)
        elif source is not None:
            results = Results(source, references, len(symbols.table), inputs)
            write_scores(folder, name, transcripts(results, symbols), SCRIPT)
    return 0


if __name__ == "__main__":
    cli.run(main)
