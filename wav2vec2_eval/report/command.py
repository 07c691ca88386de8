# SPDX-License-Identifier: Apache-2.0
"""The final table: the suite compared with PyTorch, and the conditions of both.

    python -m wav2vec2_eval.report --suite=./om_infer_res_clean --output=./eval_res/clean [--baseline=FOLDER]

Reads wer.txt, utterance_scores.tsv, infer_time.txt and run.json of each folder, prints the table as Markdown, and
writes summary.md and summary.json. Recordings without references have a table of speed alone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import cli
from ..errors import SuiteError
from ..files.data_folder import parse_skipped
from ..files.file_list import Source
from ..files.folder import output_folder
from ..files.locks import reading
from ..files.model_record import read_record
from ..files.names import (
    INFER_TIME_NAME,
    RUN_NAME,
    SCORES_NAME,
    SKIPPED_NAME,
    SUMMARY_DATA_NAME,
    SUMMARY_NAME,
    WER_NAME,
)
from ..files.parts import Parts
from ..files.run import Run
from ..files.scored import read_counts
from ..files.text import decode
from ..machine.cpu import default_threads
from ..speech.bootstrap import Comparison, compare
from ..speech.latency import AVERAGE, parse_figures
from ..speech.totals import HIGH, LOW, RATE

# An Atlas 300I card (Ascend310) has four chips, later inference cards have one.
CHIPS_PER_CARD = {"Ascend310": 4}

SCRIPT = "wav2vec2_eval.report"
MOST_SKIPPED = 10  # ids in the table
# Whose results may be in which column. postprocess.py owns the scores of other tools' results.
SUITE_SCRIPTS, BASELINE_SCRIPT = ("pyacl_infer.py", "postprocess.py"), "pth_online_infer.py"
VERSIONS_OF = ("numpy", "onnx", "onnxruntime", "openvino", "torch", "transformers", "jiwer", "whisper-normalizer")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument(
        "--suite", required=True, type=cli.path, metavar="FOLDER", help="scored results of pyacl_infer.py or ais_bench"
    )
    parser.add_argument("--baseline", type=cli.path, metavar="FOLDER", help="results of pth_online_infer.py")
    parser.add_argument("--output", required=True, type=cli.path, metavar="FOLDER", help="where the summary is written")
    parser.add_argument(
        "--soc_version", type=cli.checked(soc_name), metavar="SOC", help="the NPU, which decides the chips per card"
    )
    parser.add_argument("--max_wer", type=cli.number, metavar="X", help="fail if the suite's WER is above X")
    return parser.parse_args(argv)


def soc_name(text: str) -> str:
    """The option type of `--soc_version`."""
    if not text.startswith("Ascend"):
        raise SuiteError(f"expected a SoC name like Ascend310P3, found {text!r:.80}")
    return text


def measure(source: Source, chips: int) -> dict[str, float]:
    """One column of the table."""
    wer = _read(source, WER_NAME) if is_scored(source) else None
    times = _read(source, INFER_TIME_NAME)
    try:
        inferences = int(times["total infer num"])
        # Of recordings in chunks there are more inferences than utterances.
        is_chunked = source.run is not None and bool(source.run.of_data.chunked)
        utterances = sum(1 for _ in read_counts(source)) if is_chunked else inferences
        utterance_ms = times[AVERAGE] * inferences / utterances
        figures = {
            **({} if wer is None else _scores(wer)),
            "utterances": utterances,
            **({"chunks": inferences} if is_chunked else {}),
            "time per utterance (ms)": utterance_ms,
            f"p99 latency{' of a chunk' if is_chunked else ''} (ms)": times[
                "p99 latency(ms)" if "p99 latency(ms)" in times else "p99 pure infer time(ms)"
            ],
            "utterances/s per card": 1000 / utterance_ms * chips,
        }
    except KeyError as error:
        raise SuiteError(
            f"{source.folder}: {WER_NAME} or {INFER_TIME_NAME} lacks {error}; run the steps again"
        ) from None
    except (ValueError, ZeroDivisionError, OverflowError) as error:  # a count of 1.5, a time of 0
        raise SuiteError(f"{source.folder}: impossible figures ({error}); run the steps again") from None
    return {**figures, **{name: times[name] for name in ("RTFx", "wall RTFx") if name in times}}


def _scores(wer: Mapping[str, float]) -> dict[str, float]:
    """The rows of the scores. Raises KeyError or ValueError."""
    rates = {"WER": wer["WER"], **{name: value for name, value in wer.items() if RATE.fullmatch(name)}}
    counts = {name: int(wer[name]) for name in ("substitutions", "deletions", "insertions", "words")}
    num_utterances = {"scored utterances": int(wer["scored utterances"])} if wer.get("unscored utterances") else {}
    return {**rates, **counts, **num_utterances}


def is_scored(source: Source) -> bool:
    """False for recordings of which none has a reference."""
    return source.run is None or source.run.scored is not False


def describe(source: Source, *not_of: str) -> dict[str, Any]:
    """The conditions of the figures in a folder. Raises SuiteError if it is one of a script in `not_of`."""
    run = source.run
    if run is None:
        raise SuiteError(f"{source.folder}: expected a {RUN_NAME} in it, found none; run the inference first")
    if run.script in not_of:
        raise SuiteError(f"{source.folder}: holds results of {run.script}; see --suite and --baseline")
    described = "not known"
    if run.data and run.data.which_dataset:
        described = (
            f"{run.data.which_dataset}, from {run.data.dataset_path or 'the hub'}, "
            f"{'padded to gears' if run.data.padded else 'not padded'}"
            f"{' with attention mask' if run.data.attention_mask else ''}"
        )
        if run.data.chunked:
            described += f"; {run.data.chunked} cut into chunks of {Parts(run).chunking}: their texts are approximate"
        if source.has(SKIPPED_NAME):
            described += f"; left out: {_skipped(source)}"
    record = read_record(source)
    named = {
        "model": run.model,
        "checkpoint": None if record is None else record.name,
        "engine": run.engine,
        "device": run.device,
        "precision": run.precision,
        "threads": run.num_threads,
        "utterances at a time": run.batch_size,
        "executions in flight": run.in_flight,
        "warm-up": run.warm_up,
        "text normalization": run.normalize_text,
        "scores": None if is_scored(source) else "none, because no utterance has a reference",
        "resumed": run.resumed,  # then the times are of several runs, each with a cold start
    }
    return {"data set": described, **{name: value for name, value in named.items() if value is not None}}


def _skipped(source: Source) -> str:
    """The first ids in skipped.tsv, and how many more there are."""
    path = source.folder / SKIPPED_NAME
    text = decode(source.read(SKIPPED_NAME), str(path), "run the steps again")
    ids = [each.utterance_id for each in parse_skipped(text, path)]
    more = f" and {len(ids) - MOST_SKIPPED} more" if len(ids) > MOST_SKIPPED else ""
    return f"{', '.join(ids[:MOST_SKIPPED])}{more} (see {SKIPPED_NAME})"


def versions() -> str:
    """Python and the packages that the figures depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in VERSIONS_OF:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def format_table(
    columns: Mapping[str, Mapping[str, float]],
    conditions: Mapping[str, Mapping[str, Any]],
    comparison: Comparison | None = None,
) -> str:
    """The summary as Markdown. With two columns, a third holds the first divided by the second."""
    rows = [["", *columns], ["---"] + ["---:"] * len(columns)]
    if len(columns) == 2:
        rows[0].append("ratio")
        rows[1].append("---:")
    first, *others = columns.values()
    ratios = _ratios(columns)
    for name, value in first.items():
        if name == HIGH:
            continue  # in the row of the low end
        if name == LOW:
            row = ["WER 95 % interval", *(_interval(each) for each in columns.values())]
        else:
            row = [name, _number(value), *(_number(other[name]) for other in others if name in other)]
        if name in ratios:
            row.append(f"{ratios[name]:.3f}")
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(_align, row, widths, range(len(row)))) + " |" for row in rows]
    if comparison is not None:
        difference, low, high = (f"{100 * rate:.2f}" for rate in (comparison.difference, *comparison.interval))
        first_title, second_title = columns
        lines += [
            "",
            f"WER of {first_title} minus WER of {second_title}: {difference} points (95 % interval {low} to {high}); "
            f"probability of improvement {comparison.improvement:.3f}",
        ]
    for title, values in conditions.items():
        lines += ["", f"{title}:"] + [f"- {name}: {value}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _interval(column: Mapping[str, float]) -> str:
    return f"{_number(column[LOW])} to {_number(column[HIGH])}" if LOW in column and HIGH in column else ""


def _ratios(columns: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The first column divided by the second; nothing for the ends of an interval."""
    if len(columns) < 2:
        return {}
    first, second = columns.values()
    return {name: value / second[name] for name, value in first.items() if second.get(name) and name not in (LOW, HIGH)}


def _align(cell: str, width: int, column: int) -> str:
    if cell.startswith("---"):
        return cell[:-1].ljust(width - 1, "-") + cell[-1]
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}" if value < 10 else f"{value:.2f}"


def _read(source: Source, name: str) -> dict[str, float]:
    advice = "run the inference and postprocess.py first"
    path = source.folder / name
    try:
        figures = parse_figures(decode(source.read(name, advice), str(path), advice))
        if not all(map(math.isfinite, figures.values())):
            raise ValueError("not finite")
    except ValueError:
        raise SuiteError(f"{path}: expected lines 'label: number', found something else; run the step again") from None
    return figures


def check_comparable(columns: Mapping[str, Mapping[str, float]], sources: Sequence[Source]) -> None:
    """Raise SuiteError unless all columns are of the same utterances, with the same references."""
    for name in ("utterances", "words"):
        values = {title: column.get(name) for title, column in columns.items()}
        if len(set(values.values())) > 1:
            raise SuiteError(f"the columns cannot be compared: {name} are {values}; run both on the same data set")
    if len({_references(source) for source in sources if source.has(SCORES_NAME)}) > 1:
        raise SuiteError("the columns cannot be compared: their utterances differ; run both on the same data set")


def without_other_normalizers(columns: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The columns, without the rows of a normaliser that not all of them have."""
    in_all = set.intersection(*map(set, columns.values()))
    return {
        title: {name: value for name, value in column.items() if name in in_all or not name.startswith("normalized")}
        for title, column in columns.items()
    }


def compare_wer(first: Source, second: Source) -> Comparison | None:
    """Compare the WERs of the same utterances; None if a table of their scores is missing, or has too few of them."""
    if not (first.has(SCORES_NAME) and second.has(SCORES_NAME)):
        return None
    counts: Counter[tuple[int, int]] = Counter()
    for one, other in zip(read_counts(first), read_counts(second)):
        if one is not None and other is not None:
            counts[one[0] - other[0], one[1]] += 1
    return compare(counts) if any(words for _, words in counts) else None


def _references(source: Source) -> str:
    """A digest of ids and references."""
    digest = hashlib.sha256()
    for line in io.BytesIO(source.read(SCORES_NAME)):
        fields = line.split(b"\t")
        digest.update(b"\t".join((*fields[1:2], *fields[7:8], b"")))
    return digest.hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    chips = CHIPS_PER_CARD.get(args.soc_version, 1)
    comparison = None
    with reading(args.suite):
        suite = Source(args.suite)
        columns = {"suite": measure(suite, chips)}
        conditions = {"suite": {**describe(suite, BASELINE_SCRIPT), "chips per card": chips}}
        if args.max_wer is not None and "WER" not in columns["suite"]:
            raise SuiteError(f"{args.suite}: --max_wer expects a WER, but no utterance has a reference; leave it out")
        if args.baseline:
            with reading(args.baseline):
                baseline = Source(args.baseline)
                columns["PyTorch"] = measure(baseline, chips=1)
                conditions["PyTorch"] = describe(baseline, *SUITE_SCRIPTS)
                check_comparable(columns, [suite, baseline])
                comparison = compare_wer(suite, baseline)
            columns = without_other_normalizers(columns)
    conditions["this report was made on"] = {  # the figures may be of another host
        "host": f"{platform.machine()}, {default_threads()} cores",
        "versions": versions(),
    }
    summary: dict[str, Any] = {"figures": columns, "conditions": conditions}
    if args.baseline:
        summary["ratios"] = _ratios(columns)
    if comparison is not None:
        names = ("WER difference", "WER difference 95% low", "WER difference 95% high", "probability of improvement")
        summary["comparison"] = dict(zip(names, (comparison.difference, *comparison.interval, comparison.improvement)))

    table = format_table(columns, conditions, comparison)
    print(table, end="")
    with output_folder(args.output) as folder:
        folder.check_owner(SCRIPT)
        folder.check_free(SUMMARY_NAME, SUMMARY_DATA_NAME, RUN_NAME)
        folder.write_run(Run(SCRIPT))
        folder.write_text(SUMMARY_NAME, table)
        folder.write_text(SUMMARY_DATA_NAME, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwritten: {args.output / SUMMARY_NAME}, {args.output / SUMMARY_DATA_NAME}")

    if args.max_wer is not None and not columns["suite"]["WER"] <= args.max_wer:
        print(f"WER {columns['suite']['WER']} is above --max_wer={args.max_wer}", file=sys.stderr)
        return 1
    return 0
