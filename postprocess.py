#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decode the model's outputs and score them against the references.

Reads the results folder of pyacl_infer.py, which carries the references of preprocess.py, and writes transcriptions.txt
(one line per utterance, in data set order), with the scores beside it: wer.txt, utterance_scores.tsv, the same for
programs in utterances.jsonl, and ref.trn and hyp.trn for NIST's sclite. Results of Huawei's benchmark tool ais_bench
are read with the manifest of their data; infer_time.txt then has the times that it measured.

    python postprocess.py --bin_file_path=./om_infer_res_clean \\
        --res_save_path=./om_infer_res_clean/transcriptions.txt --which_dataset=clean
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import cli

# isort: split

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval.machine.progress import track
from wav2vec2_eval.machine.terminal import say

if TYPE_CHECKING:
    from wav2vec2_eval.files.ais_bench import Files
    from wav2vec2_eval.files.file_list import Source
    from wav2vec2_eval.files.folder import OutputFolder
    from wav2vec2_eval.files.manifest import Manifest
    from wav2vec2_eval.files.results import Logits
    from wav2vec2_eval.files.run import Run
    from wav2vec2_eval.files.scored import Transcript
    from wav2vec2_eval.files.utterances import References
    from wav2vec2_eval.speech.ctc import Symbols
    from wav2vec2_eval.speech.latency import Latency

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
    cli.add_scoring_options(parser)
    cli.add_quiet_option(parser)
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


def place_of(args: argparse.Namespace, source: Source | None) -> Path:
    """The folder that messages name: the one that should describe the results."""
    path: Path = args.bin_file_path if source is None else source.folder
    return path


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
    record = agreed({str(place_of(args, source)): travelled, f"--model_name_or_path={model}": named})
    assert record is not None
    return record.symbols


def read_references(args: argparse.Namespace, source: Source | None, inputs: Manifest | None) -> References:
    """The utterances of the results: those of the manifest or of `source`, or else the data set's, in its order."""
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files.names import UTTERANCES_NAME
    from wav2vec2_eval.files.utterances import new_utterance, read_utterances
    from wav2vec2_eval.sources.choose import open_dataset
    from wav2vec2_eval.sources.recording_table import Columns

    run = None if source is None else source.run
    made_from = run and run.of_data.which_dataset
    if source is not None and made_from is not None and args.which_dataset not in (None, made_from):
        raise SuiteError(f"{source.folder}: its results are of --which_dataset={made_from}, not {args.which_dataset}")
    references: References | None = None
    if inputs is not None:
        known = inputs.references()
        if known is not None:
            keys = inputs.parts.utterance_keys(inputs)
            references = known if known.has_keys_of(inputs) else {key: known[key] for key in keys}
    elif source is not None and source.has(UTTERANCES_NAME):
        references = read_utterances(source.folder / UTTERANCES_NAME, source)
    if references is not None:
        return references if args.limit is None else dict(islice(references.items(), args.limit))
    if args.which_dataset is None:
        remedy = "--which_dataset" if inputs is not None else "--which_dataset or --input_info_file_path"
        raise SuiteError(f"{place_of(args, source)}: has no {UTTERANCES_NAME}; give {remedy}")
    columns = Columns(args.audio_column, args.text_column)
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit, columns)
    return {
        # Decoded for its length: results are checked against it.
        str(index): new_utterance(str(index), utterance_id, len(dataset.waveform(index)), text)
        for index, (utterance_id, text) in enumerate(zip(dataset.ids, dataset.texts))
    }


def transcripts(results: Logits, symbols: Symbols, word_times: bool) -> Iterator[Transcript]:
    """Each utterance with its transcript; shows the progress."""
    from wav2vec2_eval.files.scored import transcribe
    from wav2vec2_eval.speech.audio import SAMPLE_RATE

    for utterance, logits in track(results, len(results), lambda item: item[0].num_samples / SAMPLE_RATE):
        name = f"{results.folder}: utterance {utterance.key}"
        found = transcribe(utterance, logits, symbols, name, word_times)
        yield found._replace(pure_s=results.pure_s(utterance.key))


class Measured(NamedTuple):
    """What ais_bench measured."""

    run: Run
    latencies: list[Latency]
    reason: str  # why there are no latencies


def read_measured(files: Files, source: Source | None) -> Measured:
    """The times that ais_bench left beside its results; `source` describes their data."""
    from wav2vec2_eval.files.ais_bench import ENGINE, read_times
    from wav2vec2_eval.files.run import Run

    data = None if source is None or source.run is None else source.run.of_data
    return Measured(Run(SCRIPT, engine=ENGINE, data=data), *read_times(files))


def write_times(folder: OutputFolder, measured: Measured, references: References) -> Mapping[str, float]:
    """Write infer_time.txt, or say why there are no times. Returns its figures."""
    from wav2vec2_eval.files.names import INFER_TIME_NAME
    from wav2vec2_eval.speech.audio import SAMPLE_RATE
    from wav2vec2_eval.speech.latency import format_figures, summarise

    if not measured.latencies:
        print(f"no times: {measured.reason}")
        return {}
    # The order does not matter: all times count, and all lengths.
    lengths_s = [references[key].num_samples / SAMPLE_RATE for key in references]
    figures = summarise(measured.latencies, lengths_s=lengths_s)
    folder.write_text(INFER_TIME_NAME, format_figures(figures))
    say(f"written: {folder.path / INFER_TIME_NAME}, of times that {measured.run.engine} measured")
    return figures


def read_times(source: Source | None) -> Mapping[str, float]:
    """The figures of the infer_time.txt beside the results; none if it is missing, or not the suite's."""
    from wav2vec2_eval.files.names import INFER_TIME_NAME
    from wav2vec2_eval.speech.latency import parse_figures

    if source is None or not source.has(INFER_TIME_NAME):
        return {}
    try:
        return parse_figures(source.read(INFER_TIME_NAME).decode())
    except ValueError:
        return {}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.files import ais_bench
    from wav2vec2_eval.files.file_list import Source
    from wav2vec2_eval.files.locks import reading
    from wav2vec2_eval.files.names import CTM_NAME
    from wav2vec2_eval.files.results import Results, check_some
    from wav2vec2_eval.files.scores import scores_folder, write_scores
    from wav2vec2_eval.speech.readable import format_speed

    path, normalize_text = args.bin_file_path, args.normalize_text
    if not path.is_dir():
        raise SuiteError(f"{path}: no such folder; expected the results of pyacl_infer.py, run that first")
    files = ais_bench.find(path)
    if files is not None and (args.input_info_file_path, args.which_dataset) == (None, None):
        raise SuiteError(f"{path}: results of ais_bench have no references; give --input_info_file_path of their data")
    scored = path if files is None else None  # beside results of ais_bench, which no script owns, there are only scores
    others = (CTM_NAME,) if args.word_times else ()
    with scores_folder(args.res_save_path, SCRIPT, scored, normalize_text, others) as folder, ExitStack() as locks:
        if not folder.path.samefile(path):  # otherwise the scores' lock is that of the results, too
            locks.enter_context(reading(path))
        source = Source(path) if files is None else None
        if source is not None:
            check_some(source)
        inputs = open_inputs(args, source, folder, locks)
        carrier = source if inputs is None else inputs.source
        symbols = read_symbols(args, carrier)
        references = read_references(args, carrier, inputs)
        num_symbols = len(symbols.table)
        results: Logits
        measured = None
        if files is not None:
            results = ais_bench.AisBenchResults(path, files, references, num_symbols, inputs)
            measured = read_measured(files, carrier)
        elif source is not None:
            results = Results(source, references, num_symbols, inputs)
        times = read_times(source)
        outcome = write_scores(
            folder,
            args.res_save_path.name,
            transcripts(results, symbols, args.word_times),
            SCRIPT,
            inference=measured and measured.run,
            normalize_text=normalize_text,
            symbols=symbols,
            word_times=args.word_times,
        )
        if measured is not None:
            times = write_times(folder, measured, references)
    print(", ".join(filter(None, (str(outcome), format_speed(times)))))
    return 0


if __name__ == "__main__":
    cli.run(main)
