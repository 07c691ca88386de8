#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The results of engines.py: what is kept of a run, and a record for each kind of processor, in test/bench/records.

Prints the tables of README.md's section "Results" from all records. README.zh-CN.md has the same figures.

    python test/bench/records.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bound import Rates
from common import fast_features, verdict
from peers import BEFORE, ENTRIES, GPU, PEER, SUITE, Round

from wav2vec2_eval import cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.machine.cpu import cpu_features, cpu_name
from wav2vec2_eval.speech.latency import percentile

RECORDS = Path(__file__).resolve().parent / "records"
PYTORCH = ENTRIES["pytorch-f32"].title
X_PYTORCH, X_STRONGEST = "x PyTorch", "x strongest peer"

# A processor's strongest instructions, which tell apart those with one name: in the file's name -> in Linux's words.
KINDS = {
    "amx": "amx_int8",
    "avx512-bf16": "avx512_bf16",
    "avx512-vnni": "avx512_vnni",
    "avx512": "avx512f",
    "avx2": "avx2",
    "i8mm": "i8mm",
    "asimddp": "asimddp",
}


# A run, which can be resumed


@dataclass
class Progress:
    """What a run has measured so far, by names of entries."""

    setup: dict[str, Any]  # what another run must have in common to resume this one
    left_out: dict[str, str] = field(default_factory=dict)  # the reasons
    starts_s: dict[str, float] = field(default_factory=dict)
    rounds: list[dict[str, Round]] = field(default_factory=list)
    rates: list[Rates] = field(default_factory=list)  # of the bound, in each round
    demo: dict[str, Round] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Replace the file at once, so that an interruption leaves the round before."""
        document = asdict(self)
        document["rounds"] = [{name: each._asdict() for name, each in found.items()} for found in self.rounds]
        document["demo"] = {name: each._asdict() for name, each in self.demo.items()}
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        new.replace(path)


def resume(path: Path, setup: Mapping[str, Any]) -> Progress:
    """What an earlier run with the same setup has saved. Raises SuiteError if there is none, or another one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rounds = [{name: Round(**each) for name, each in found.items()} for found in document["rounds"]]
        demo = {name: Round(**each) for name, each in document["demo"].items()}
        progress = Progress(**{**document, "rounds": rounds, "demo": demo})
    except FileNotFoundError:
        raise SuiteError(f"--resume: {path}: no such file; leave --resume out to begin a run") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SuiteError(f"--resume: {path}: not what engines.py saves; leave --resume out to begin anew") from None
    for key in [*setup, *progress.setup]:
        now, then = (json.loads(json.dumps(each.get(key))) for each in (setup, progress.setup))
        if now != then:
            raise SuiteError(
                f"--resume: {path}: its run had {key} {then}, this one has {now}; give the same options on the same "
                f"host, or leave --resume out to begin anew"
            )
    return progress


# Figures


@dataclass(frozen=True)
class Row:
    """All timed rounds of one engine. None: not measured."""

    title: str
    kind: str
    precision: str
    rtfx: float  # median of the rounds
    p50_ms: float
    p99_ms: float
    peak_memory_mb: float
    first_result_s: float | None = None
    wer: float | None = None
    rtfx_of_rounds: Sequence[float] = ()
    cpu_s: float | None = None  # CPU seconds for each second of audio
    others: float | None = None  # the share of its cores' time that other processes took, 0 to 1
    transcripts: str = ""  # of the demo, a digest
    bound_rtfx: float | None = None  # at the model's own shapes

    @property
    def share(self) -> float | None:
        """Of the machine's bound."""
        return self.rtfx / self.bound_rtfx if self.bound_rtfx else None


def summarise(
    name: str, rounds: Sequence[Round], first_s: float | None, demo: Round | None, bound_rtfx: float | None
) -> Row:
    """The figures of one engine. The WER is that of the rounds' own utterances, or else the demo's."""
    entry = ENTRIES[name]
    rtfx = [each.audio_s / each.seconds for each in rounds]
    latencies_ms = [latency for each in rounds for latency in each.latencies_ms]
    scored = [each for each in rounds if each.words] or [each for each in [demo] if each]
    others = [each.others * each.seconds for each in rounds if each.others is not None]
    seconds = sum(each.seconds for each in rounds)
    return Row(
        title=entry.title,
        kind=entry.kind,
        precision=entry.precision,
        rtfx=median(rtfx),
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
        peak_memory_mb=max(each.peak_mb for each in rounds),
        first_result_s=first_s,
        wer=sum(each.errors for each in scored) / sum(each.words for each in scored) if scored else None,
        rtfx_of_rounds=rtfx,
        cpu_s=sum(each.cpu_s for each in rounds) / sum(each.audio_s for each in rounds),
        others=sum(others) / seconds if len(others) == len(rounds) else None,
        transcripts=demo.transcripts if demo else "",
        bound_rtfx=None if entry.kind == GPU else bound_rtfx,
    )


Rows = Mapping[str, Row]  # by title


def ratio(ours: Row, peer: Row) -> float:
    """How many times as fast `ours` is: the median over the rounds, which had the same work."""
    pairs = zip(ours.rtfx_of_rounds, peer.rtfx_of_rounds)
    return median(one / other for one, other in pairs)


def strongest(rows: Rows, precision: str) -> Row | None:
    """The fastest peer in this precision, as a user of a CPU would choose it; None if none was measured."""
    peers = [row for row in rows.values() if row.kind == PEER and row.precision == precision]
    return max(peers, key=lambda row: row.rtfx, default=None)


def row_of(rows: Rows, kind: str, precision: str) -> Row | None:
    """The suite's row in this precision, now or before."""
    return next((row for row in rows.values() if (row.kind, row.precision) == (kind, precision)), None)


class Comparison(NamedTuple):
    """A figure and what it is to reach; None: no target."""

    text: str
    value: float
    target: float | None
    at_most: bool = False
    unit: str = ""

    def line(self) -> str:
        shown = f"{self.text}: {self.value:.2f}{self.unit}"
        if self.target is None:
            return shown
        value = round(self.value, 2)  # what is shown decides: in its third digit even an equal engine differs
        reached = value <= self.target if self.at_most else value >= self.target
        limit = "at most " if self.at_most else ""
        return f"{shown}, target {limit}{self.target:g}{self.unit}: {verdict(reached)}"


TO_STRONGEST = {"f32": 1.0, "bf16": 1.25, "int8": 1.25}
INT8_TO_BF16 = 1.3
TO_BEFORE = {"f32": None, "bf16": 1.25, "int8": 1.5}
SHARE_OF_BOUND = 0.5
LOSS = {"bf16": 0.3, "int8": 0.5}  # points of WER
FIRST_S = 3.0


def comparisons(rows: Rows) -> Iterator[Comparison]:
    """The figures that the suite is judged by, as far as they were measured."""
    exact = row_of(rows, SUITE, "f32")
    for precision, target in TO_STRONGEST.items():
        ours, peer = row_of(rows, SUITE, precision), strongest(rows, precision)
        if ours is None:
            continue
        if peer:
            yield Comparison(f"{ours.title} / strongest {precision} peer, {peer.title}", ratio(ours, peer), target)
            if precision == "f32":
                memory = ours.peak_memory_mb / peer.peak_memory_mb
                yield Comparison(f"  peak memory, {ours.title} / {peer.title}", memory, 1.0, at_most=True)
        floats = row_of(rows, SUITE, "bf16")
        if precision == "int8" and floats:
            yield Comparison(f"{ours.title} / {floats.title}", ratio(ours, floats), INT8_TO_BF16)
        before = row_of(rows, BEFORE, precision)
        if before:
            text = f"{ours.title} / before, and so the shares of the bound"
            yield Comparison(text, ratio(ours, before), TO_BEFORE[precision])
        if before and before.peak_memory_mb:
            memory = ours.peak_memory_mb / before.peak_memory_mb
            yield Comparison(f"  peak memory, {ours.title} / before", memory, 1.0, at_most=True)
        if ours.share is not None:
            yield Comparison(f"{ours.title} / the machine's bound", ours.share, SHARE_OF_BOUND)
        if ours.first_result_s is not None:
            yield Comparison(f"{ours.title}, first result", ours.first_result_s, FIRST_S, at_most=True, unit=" s")
        if precision in LOSS and exact and ours.wer is not None and exact.wer is not None:
            loss = 100 * (ours.wer - exact.wer)
            yield Comparison(f"{ours.title}, WER against f32", loss, LOSS[precision], at_most=True, unit=" points")


def ratios(rows: Rows) -> dict[str, dict[str, float]]:
    """The columns of ratios: to PyTorch in float32, and to the strongest peer of the same precision."""
    peers = {precision: strongest(rows, precision) for precision in TO_STRONGEST}
    against = {X_PYTORCH: dict.fromkeys(rows, rows.get(PYTORCH))}
    against[X_STRONGEST] = {title: peers.get(row.precision) for title, row in rows.items() if row.kind != GPU}
    return {
        column: {title: ratio(rows[title], peer) for title, peer in compared.items() if peer}
        for column, compared in against.items()
    }


# Tables


def shown(value: float | None, form: str, factor: float = 1) -> str:
    """A cell; "-" if the figure is not known."""
    return "-" if value is None else f"{factor * value:{form}}"


def cells(row: Row) -> list[str]:
    """Those of README's columns."""
    wer = "-" if row.wer is None else f"{100 * row.wer:.2f} %"
    times = [f"{row.rtfx:.1f}", f"{row.p50_ms:.0f}", f"{row.p99_ms:.0f}", shown(row.first_result_s, ".1f")]
    return [*times, f"{row.peak_memory_mb:.0f}", wer]


TITLES = ["RTFx", "p50 (ms)", "p99 (ms)", "first result (s)", "peak memory (MB)", "WER, demo"]


def head(titles: Sequence[str]) -> Iterator[str]:
    yield f"| engine | {' | '.join(titles)} |"
    yield "| --- |" + " ---: |" * len(titles)


def table(rows: Rows) -> Iterator[str]:
    """The lines of a run's result, as Markdown."""
    columns = ratios(rows)
    yield from head([*TITLES[:-1], "WER", "CPU s / audio s", "others (%)", "of the bound (%)", *columns])
    for row in rows.values():
        more = [shown(row.cpu_s, ".3f"), shown(row.others, ".0f", 100), shown(row.share, ".0f", 100)]
        more += [shown(column.get(row.title), ".2f") for column in columns.values()]
        yield f"| {row.title} | {' | '.join([*cells(row), *more])} |"


# Records


def record_name(name: str, features: set[str]) -> str:
    """The plain file name of a kind of processor: its model name, and its strongest instructions."""
    text = re.fullmatch(r"cpu \((.*)\)", name)
    words = re.findall(r"[a-z0-9]+", (text[1] if text else name).lower())
    strongest_kind = next((kind for kind, feature in KINDS.items() if feature in features), "basic")
    return f"{'-'.join([*words, strongest_kind])}.json"


def this_record() -> Path:
    """The record of this host's kind of processor."""
    return RECORDS / record_name(cpu_name(), cpu_features())


def new_record(rows: Rows, threads: int, commit: str | None, **more: object) -> dict[str, Any]:
    """What is kept of a run; README shows PyTorch in float32, the strongest peers, and the suite."""
    peers = [strongest(rows, precision) for precision in TO_STRONGEST]
    in_readme = [
        row.title for row in rows.values() if row.title == PYTORCH or row.kind == SUITE or row in [*filter(None, peers)]
    ]
    return {
        "processor": f"{cpu_name().removeprefix('cpu (').removesuffix(')')}, {fast_features()}",
        "threads": threads,
        "commit": commit,
        "in README": in_readme,
        "rows": {title: asdict(row) for title, row in rows.items()},
        "ratios": ratios(rows),
        "comparisons": [each._asdict() for each in comparisons(rows)],
        **more,
    }


def read_records(folder: Path = RECORDS) -> list[dict[str, Any]]:
    """All records, by file name. Raises SuiteError for a file that is none."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            readme_table(record)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise SuiteError(f"{path}: expected a record of engines.py --record, found something else") from None
        found.append(record)
    return found


def readme_table(record: Mapping[str, Any]) -> list[str]:
    """The lines of README for one processor. Only a commit that is known is named."""
    commit = f"commit {record['commit']}" if record["commit"] else "an earlier commit"
    columns = record["ratios"]
    lines = [f"**{record['processor']}**, {record['threads']} threads, {commit}:", ""]
    lines += head([*TITLES, *columns])
    for title in record["in README"]:
        row = Row(**record["rows"][title])
        values = [*cells(row), *(shown(column.get(title), ".2f") for column in columns.values())]
        lines.append(f"| {f'**{title}**' if row.kind == SUITE else title} | {' | '.join(values)} |")
    return lines


def readme_tables(records: Sequence[Mapping[str, Any]]) -> str:
    """The tables of all records, with a line before each that says which processor it is."""
    return "\n\n".join("\n".join(readme_table(record)) for record in records)


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.ArgumentParser(__doc__)
    parser.parse_args(argv)
    print(readme_tables(read_records()))
    return 0


if __name__ == "__main__":
    cli.run(main)
