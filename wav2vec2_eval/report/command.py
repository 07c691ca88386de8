# SPDX-License-Identifier: Apache-2.0
"""Scored results side by side, and the conditions of each.

    python -m wav2vec2_eval.report ./om_infer_res_clean ./pth_online_infer_res/clean --output=./eval_res/clean

Reads the files of scores, infer_time.txt and run.json of each folder, prints the table as Markdown, and writes
summary.md, summary.json with all figures, and report.html, a page with pictures and the worst utterances. Recordings
without references have a table of speed alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__, cli
from ..errors import SuiteError
from ..files.file_list import Source
from ..files.folder import output_folder
from ..files.locks import reading
from ..files.names import PAGE_NAME, RUN_NAME, SCORES_NAME, SUMMARY_DATA_NAME, SUMMARY_NAME
from ..files.run import Run
from ..machine.cpu import default_threads
from ..machine.terminal import say
from ..sources.recording_table import Columns
from ..speech.normalization import NONE
from .comparison import check_comparable, check_sums, compare_wer, ratios, without_other_normalizers
from .details import details, worst_speakers
from .figures import COMPARED
from .results import Results, differing, read_results, titles
from .table import format_summary
from .utterances import Utterances, read_utterances

SCRIPT = "wav2vec2_eval.report"
VERSIONS_OF = ("numpy", "onnx", "onnxruntime", "openvino", "torch", "transformers", "jiwer", "whisper-normalizer")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "results",
        nargs="+",
        type=cli.path,
        metavar="RESULTS",
        help="folders of scored results, one for each column: of pyacl_infer.py, pth_online_infer.py, or the scores of "
        "ais_bench's results",
    )
    parser.add_argument(
        "--reference",
        type=cli.path,
        metavar="FOLDER",
        help="the one of them that the others are compared with (default: the first)",
    )
    parser.add_argument("--output", required=True, type=cli.path, metavar="FOLDER", help="where the report is written")
    parser.add_argument(
        "--audio",
        type=cli.path_text,
        metavar="PATH",
        help="the recordings, as --dataset_path: the page then plays the worst utterances",
    )
    cli.add_column_options(parser)
    parser.add_argument(
        "--soc_version",
        type=cli.checked(soc_name),
        metavar="SOC",
        help="the NPU, which decides the chips per card, where the results do not name it",
    )
    parser.add_argument("--max_wer", type=cli.number, metavar="X", help="fail if a WER is above X; not PyTorch's")
    cli.add_quiet_option(parser)
    return parser.parse_args(argv)


def soc_name(text: str) -> str:
    """The option type of `--soc_version`."""
    if not text.startswith("Ascend"):
        raise SuiteError(f"expected a SoC name like Ascend310P3, found {text!r:.80}")
    return text


def position_of_reference(folders: Sequence[Path], reference: Path | None) -> int:
    """Which folder the others are compared with.

    Raises SuiteError if a folder is named twice, and for a reference that is none of the folders.
    """
    real = [folder.resolve() for folder in folders]
    again = next((folder for folder, each in zip(folders, real) if real.count(each) > 1), None)
    if again is not None:
        raise SuiteError(f"{again}: is there twice; give each folder once")
    if reference is None:
        return 0
    if reference.resolve() not in real:
        raise SuiteError(f"--reference={reference}: expected one of the folders that are compared")
    return real.index(reference.resolve())


def versions() -> str:
    """Python and the packages that the figures depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in VERSIONS_OF:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def texts_of(sources: Sequence[Source]) -> str:
    """The normalizer of the texts whose errors are shown one by one: that of all columns, or none if theirs differ."""
    chosen = {(source.run and source.run.normalize_text) or NONE for source in sources}
    return chosen.pop() if len(chosen) == 1 else NONE


def read_all(folders: Sequence[Path], soc_version: str | None) -> tuple[list[Results], list[Utterances | None]]:
    """Every folder, and its utterances where it has them. Raises SuiteError for a folder that cannot be read."""
    sources = [Source(folder) for folder in folders]
    texts = texts_of(sources)
    all_results, every = [], []
    for source in sources:
        utterances = read_utterances(source, texts) if source.has(SCORES_NAME) else None
        results = read_results(source, None if utterances is None else len(utterances), soc_version)
        if utterances is not None:
            check_sums(results, utterances)
        all_results.append(results)
        every.append(utterances)
    return all_results, every


def summarise(all_results: Sequence[Results], every: Sequence[Utterances | None], reference: int) -> dict[str, Any]:
    """All that the report says; `reference` is the position of the column that the others are compared with.

    Raises SuiteError if the columns are not of the same utterances.
    """
    names = titles(all_results)
    check_comparable(names, all_results, every)
    figures = without_other_normalizers([each.figures for each in all_results])
    data = all_results[0].run.of_data
    summary: dict[str, Any] = {
        "data set": data.which_dataset or "not known",
        "figures": dict(zip(names, figures)),
        "conditions": {name: each.conditions for name, each in zip(names, all_results)},
    }
    if len(names) > 1:
        others = [position for position in range(len(names)) if position != reference]
        compared = {names[at]: compare_wer(every[at], every[reference]) for at in others}
        summary |= {
            "reference": names[reference],
            "differing conditions": differing(summary["conditions"].values()),
            "ratios": {names[at]: ratios(figures[at], figures[reference]) for at in others},
            "comparisons": {
                name: dict(zip(COMPARED, (found.difference, *found.interval, found.improvement)))
                for name, found in compared.items()
                if found is not None
            },
        }
    summary["made on"] = {  # the figures may be of another host
        "suite": __version__,
        "host": f"{platform.machine()}, {default_threads()} cores",
        "versions": versions(),
    }
    texts = texts_of([each.source for each in all_results])
    summary["texts"] = "as they are" if texts == NONE else f"normalized ({texts})"
    speakers = worst_speakers(every[reference])
    summary["details"] = {
        name: details(results, utterances, speakers)
        for name, results, utterances in zip(names, all_results, every)
        if utterances is not None
    }
    return summary


def check_wer(all_results: Sequence[Results], max_wer: float) -> int:
    """The exit status: 1 if a WER is above the limit. The baseline is not judged."""
    status = 0
    for results in all_results:
        if not results.is_baseline and not results.figures["WER"] <= max_wer:
            print(
                f"WER {results.figures['WER']} of {results.source.folder} is above --max_wer={max_wer}",
                file=sys.stderr,
            )
            status = 1
    return status


def build(args: argparse.Namespace) -> tuple[list[Results], dict[str, Any], str]:
    """The columns, what the report says of them, and its page. Raises SuiteError if they cannot be compared."""
    from .page import render  # matplotlib takes a while, --help does not need it
    from .players import read_players

    reference = position_of_reference(args.results, args.reference)
    with ExitStack() as locks:
        for folder in args.results:
            locks.enter_context(reading(folder))
        all_results, every = read_all(args.results, args.soc_version)
        for results in all_results:
            if args.max_wer is not None and "WER" not in results.figures and not results.is_baseline:
                raise SuiteError(
                    f"{results.source.folder}: --max_wer expects a WER, but no utterance has a reference; leave it out"
                )
        summary = summarise(all_results, every, reference)
        players = {}
        if args.audio is not None:
            columns = Columns(args.audio_column, args.text_column)
            players = read_players(args.audio, all_results[0].run, summary["details"].values(), columns)
    return all_results, summary, render(summary, players)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    inside = next((each for each in args.results if each.resolve() in args.output.resolve().parents), None)
    if inside is not None:
        raise SuiteError(f"{args.output}: is inside of {inside}, whose script would refuse that; choose another folder")
    with output_folder(args.output) as folder:
        folder.check_owner(SCRIPT)
        folder.check_free(SUMMARY_NAME, SUMMARY_DATA_NAME, PAGE_NAME, RUN_NAME)
        all_results, summary, page = build(args)
        table = format_summary(summary)
        say(table)
        if SUMMARY_NAME in (folder.files() or ()):
            say(f"replacing the report in {args.output}")
        folder.write_run(Run(SCRIPT))
        data = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with ExitStack() as files:  # none of them replaces an earlier one before all are written
            for name, text in ((SUMMARY_NAME, table), (SUMMARY_DATA_NAME, data), (PAGE_NAME, page)):
                file = files.enter_context(folder.writing(name))
                file.write(text.encode())
                file.flush()
    written = (args.output / name for name in (PAGE_NAME, SUMMARY_NAME, SUMMARY_DATA_NAME))
    print(f"written: {', '.join(map(str, written))}")
    return 0 if args.max_wer is None else check_wer(all_results, args.max_wer)
