# SPDX-License-Identifier: Apache-2.0
"""A summary as the report writes it, of columns that nobody has measured: for the tests of the page."""

from __future__ import annotations

from typing import Any

TITLES = ("onnxruntime float32", "OpenVINO int8", "PyTorch float32")
NOT_KNOWN: dict[str, Any] = {"data set": "not known"}


def figures(position: int) -> dict[str, Any]:
    errors = 21 + position
    return {
        "WER": errors / 526,
        "CER": 0.0085 + position / 1000,
        "WER 95% low": errors / 526 - 0.0201,
        "WER 95% high": errors / 526 + 0.0212,
        "substitutions": errors - 2,
        "deletions": 2,
        "insertions": 0,
        "words": 526,
        "utterances": 52,
        "time per utterance (ms)": 17.123456 * (1 + position),
        "p50 latency (ms)": 15.51 * (1 + position),
        "p90 latency (ms)": 28.49 * (1 + position),
        "p99 latency (ms)": 69.21 * (1 + position),
        "utterances/s per card": 56.17 / (1 + position),
        "RTFx": 195.26 / (1 + position),
        "wall RTFx": 184.21 / (1 + position),
    }


def details(position: int) -> dict[str, Any]:
    edits = [
        ["equal", "THE CAT", "THE CAT"],
        ["substitute", "SAT", "SET"],
        ["insert", "", "ON"],
        ["delete", "MAT", ""],
    ]
    worst = {
        "seconds": 1.4468125,
        "reference": "THE CAT SAT MAT",
        "hypothesis": "THE CAT SET ON",
        "errors": 3,
        "words": 4,
        "WER": 0.75,
        "edits": edits,
    }
    rate = {"utterances": 13, "words": 37, "errors": 2 + position, "WER": (2 + position) / 37}
    interval = {"WER 95% low": 0.011, "WER 95% high": 0.173}
    return {
        "WER by length": [
            {"from (s)": 0.0, "to (s)": 2.0, **rate, **interval},
            {"from (s)": 2.0, "to (s)": 4.0, **rate},
            {"from (s)": 4.0, "to (s)": 6.0, **rate, "words": 0, "WER": None},
        ],
        "WER by speaker": [{"speaker": "61", **rate}, {"speaker": "4077", **rate, "errors": 0, "WER": 0.0}],
        "latency by length": {
            "latency of": "an utterance",
            "of": 3,
            "gears (s)": [0.625, 2.5],
            "points": [[0.5, 6.25 + position], [2.0, 7.5], [4.0, 15.25]],
        },
        "latency histogram": {"edges (ms)": [6.0, 8.0, 12.0, 16.0], "counts": [2, 0, 1]},
        "time": {
            "wall (s)": 0.97,
            "computing (s)": 0.92,
            "waiting for inputs (s)": 0.011,
            "waiting for writing (s)": 0.022,
            "reading (s)": 0.12,
            "writing (s)": 0.25,
        },
        "confusions": [
            {"reference": "ALL", "hypothesis": "CALL", "count": 7},
            {"reference": "MAT", "hypothesis": "", "count": 3},
            {"reference": "", "hypothesis": "ON", "count": 2},
        ],
        "worst": [{"id": f"61-1-{number:04d}", **worst} for number in range(2)],
    }


def make_summary(titles: tuple[str, ...] = TITLES) -> dict[str, Any]:
    """A summary with a column for each title; the last one is the reference."""
    columns = {title: figures(position) for position, title in enumerate(titles)}
    summary: dict[str, Any] = {
        "data set": "clean",
        "figures": columns,
        "conditions": {
            title: {"data set": "clean, from the hub, not padded", "engine": f"engine {position}", "threads": 2}
            for position, title in enumerate(titles)
        },
        "made on": {"host": "x86_64, 2 cores", "versions": "Python 3.11.7"},
        "details": {title: details(position) for position, title in enumerate(titles)},
    }
    *others, reference = titles
    if others:
        summary |= {
            "reference": reference,
            "differing conditions": ["engine"],
            "ratios": {
                title: {"RTFx": columns[title]["RTFx"] / columns[reference]["RTFx"], "WER": 0.875} for title in others
            },
            "comparisons": {
                title: {
                    "WER difference": -0.0038,
                    "WER difference 95% low": -0.0119,
                    "WER difference 95% high": 0.0021,
                    "probability of improvement": 0.771,
                }
                for title in others
            },
        }
    return summary
