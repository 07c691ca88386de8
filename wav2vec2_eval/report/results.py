# SPDX-License-Identifier: Apache-2.0
"""One column of the report: the figures of a scored folder, and the conditions under which they came about."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import SuiteError
from ..files.data_folder import parse_skipped
from ..files.file_list import Source
from ..files.model_record import read_record
from ..files.names import INFER_TIME_NAME, RUN_NAME, SCORES_NAME, SKIPPED_NAME, WER_NAME
from ..files.parts import Parts
from ..files.run import Run
from ..files.text import decode
from ..speech.latency import AVERAGE, parse_figures
from ..speech.totals import RATE

# An Atlas 300I card (Ascend310) has four chips, later inference cards have one.
CHIPS_PER_CARD = {"Ascend310": 4}

BASELINE_SCRIPT = "pth_online_infer.py"
PERCENTILES = (50, 90, 99)
MOST_SKIPPED = 10  # ids in the conditions
_MOST = 1e15  # of any figure: some 30,000 years in milliseconds


class Results(NamedTuple):
    """A scored folder."""

    source: Source
    run: Run
    figures: dict[str, float]  # label -> number
    conditions: dict[str, Any]  # label -> text or number
    times: Mapping[str, float]  # infer_time.txt

    @property
    def is_baseline(self) -> bool:
        return self.run.script == BASELINE_SCRIPT

    @property
    def is_chunked(self) -> bool:
        return bool(self.run.of_data.chunked)


def read_results(source: Source, num_utterances: int | None, soc_version: str | None = None) -> Results:
    """The figures and conditions of a folder.

    `num_utterances` are those in the files of scores, if it has such files; of recordings in chunks there are more
    inferences. `soc_version` names the NPU where the results do not. Raises SuiteError if a file is missing, damaged or
    impossible.
    """
    run = source.run
    if run is None:
        raise SuiteError(f"{source.folder}: expected a {RUN_NAME} in it, found none; run the inference first")
    wer = _read(source, WER_NAME) if run.scored is not False else None
    times = _read(source, INFER_TIME_NAME)
    chips = chips_per_card(run, soc_version)
    is_chunked = bool(run.of_data.chunked)
    try:
        inferences = _count(times["total infer num"])
        utterances = num_utterances if is_chunked and num_utterances is not None else inferences
        if num_utterances is not None and utterances != num_utterances:
            raise SuiteError(
                f"{source.folder}: {INFER_TIME_NAME} is of {inferences} inferences, {SCORES_NAME} of {num_utterances} "
                f"utterances; run the steps again"
            )
        utterance_ms = times[AVERAGE] * inferences / utterances
        figures = {
            **({} if wer is None else _scores(wer)),
            "utterances": utterances,
            **({"chunks": inferences} if is_chunked else {}),
            "time per utterance (ms)": utterance_ms,
            **_percentiles(times, " of a chunk" if is_chunked else ""),
            "utterances/s per card": 1000 / utterance_ms * chips,
        }
    except KeyError as error:
        raise SuiteError(
            f"{source.folder}: {WER_NAME} or {INFER_TIME_NAME} lacks {error}; run the steps again"
        ) from None
    except (ValueError, ZeroDivisionError, OverflowError) as error:  # a count of 1.5, a time of 0
        raise SuiteError(f"{source.folder}: impossible figures ({error}); run the steps again") from None
    figures.update({name: times[name] for name in ("RTFx", "wall RTFx") if name in times})
    if not all(map(math.isfinite, figures.values())):
        raise SuiteError(f"{source.folder}: impossible figures in {INFER_TIME_NAME}; run the steps again")
    conditions = {**_describe(source, run), **({"chips per card": chips} if _is_npu(run, soc_version) else {})}
    return Results(source, run, figures, conditions, times)


def chips_per_card(run: Run, soc_version: str | None) -> int:
    """The chips on a card of the NPU that made the results; 1 for a CPU, and for the baseline."""
    device = (run.device or "").partition(",")[0]
    soc = device if device.startswith("Ascend") else soc_version
    return CHIPS_PER_CARD.get(soc or "", 1) if _is_npu(run, soc) else 1


def _is_npu(run: Run, soc_version: str | None) -> bool:
    """Whether an NPU made the results: its own say so; those of other tools do not, but the user may."""
    if (run.device or "").startswith("Ascend"):
        return True
    return soc_version is not None and run.script != BASELINE_SCRIPT and run.num_threads is None


def _count(value: float) -> int:
    """Raises ValueError unless the value is a whole number."""
    if value != int(value):
        raise ValueError(f"{value} is no count")
    return int(value)


def _percentiles(times: Mapping[str, float], what: str) -> dict[str, float]:
    """The latencies. With several executions at once, the pure time is only a share of the busy time."""
    name = "latency" if f"p{PERCENTILES[0]} latency(ms)" in times else "pure infer time"
    return {f"p{percent} latency{what} (ms)": times[f"p{percent} {name}(ms)"] for percent in PERCENTILES}


def _scores(wer: Mapping[str, float]) -> dict[str, float]:
    """The rows of the scores. Raises KeyError or ValueError."""
    rates = {"WER": wer["WER"], **{name: value for name, value in wer.items() if RATE.fullmatch(name)}}
    counts = {name: _count(wer[name]) for name in ("substitutions", "deletions", "insertions", "words")}
    num_utterances = {"scored utterances": _count(wer["scored utterances"])} if wer.get("unscored utterances") else {}
    return {**rates, **counts, **num_utterances}


def _describe(source: Source, run: Run) -> dict[str, Any]:
    """The conditions of the figures."""
    data, described = run.data, "not known"
    if data and data.which_dataset:
        described = (
            f"{data.which_dataset}, from {data.dataset_path or 'the hub'}, "
            f"{'padded to gears' if data.padded else 'not padded'}"
            f"{' with attention mask' if data.attention_mask else ''}"
        )
        if data.chunked:
            described += f"; {data.chunked} cut into chunks of {Parts(run).chunking}: their texts are approximate"
        if source.has(SKIPPED_NAME):
            described += f"; left out: {_skipped(source)}"
    record = read_record(source)
    named = {
        "model": run.model,
        "checkpoint": run.model if run.script == BASELINE_SCRIPT else record and record.name,
        "engine": run.engine,
        "device": run.device,
        "precision": run.precision,
        "threads": run.num_threads,
        "utterances at a time": run.batch_size,
        "executions in flight": run.in_flight,
        "warm-up": run.warm_up,
        "text normalization": run.normalize_text,
        "scores": "none, because no utterance has a reference" if run.scored is False else None,
        "resumed": run.resumed,  # then the times are of several runs, each with a cold start
        "results": str(source.folder),
    }
    return {"data set": described, **{name: value for name, value in named.items() if value is not None}}


def _skipped(source: Source) -> str:
    """The first ids in skipped.tsv, and how many more there are."""
    path = source.folder / SKIPPED_NAME
    text = decode(source.read(SKIPPED_NAME), str(path), "run the steps again")
    ids = [each.utterance_id for each in parse_skipped(text, path)]
    more = f" and {len(ids) - MOST_SKIPPED} more" if len(ids) > MOST_SKIPPED else ""
    return f"{', '.join(ids[:MOST_SKIPPED])}{more} (see {SKIPPED_NAME})"


def _read(source: Source, name: str) -> dict[str, float]:
    advice = "run the inference and postprocess.py first"
    path = source.folder / name
    try:
        figures = parse_figures(decode(source.read(name, advice), str(path), advice))
        if not all(0 <= value <= _MOST for value in figures.values()):
            raise ValueError("no figure that the suite writes")
    except ValueError:
        raise SuiteError(f"{path}: expected lines 'label: number', found something else; run the step again") from None
    return figures


def titles(all_results: Sequence[Results]) -> list[str]:
    """A short name for each column, such as `OpenVINO int8`; with the folder, if others have the same."""
    names = [_title(each) for each in all_results]
    for of_folder in (lambda each: each.source.folder.resolve().name, lambda each: str(each.source.folder)):
        again = {name for name in names if names.count(name) > 1}
        names = [
            f"{_title(each)} ({of_folder(each)})" if name in again else name for name, each in zip(names, all_results)
        ]
    return names


def _title(results: Results) -> str:
    run = results.run
    if _is_npu(run, None):
        return str(run.device).partition(",")[0]
    engine = _first(run.engine, " ") or str(run.script)
    return " ".join(filter(None, [engine, _first(_first(run.precision, ","), " and ")]))


def _first(text: str | None, separator: str) -> str:
    return (text or "").partition(separator)[0]


def differing(conditions: Iterable[Mapping[str, Any]]) -> list[str]:
    """The labels in which the conditions differ, in order. (The folders of the results always do.)"""
    every = list(conditions)
    labels = dict.fromkeys(label for each in every for label in each if label != "results")
    return [label for label in labels if len({str(each.get(label)) for each in every}) > 1]
