# SPDX-License-Identifier: Apache-2.0
"""The summary as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..speech.totals import HIGH, LOW

_INTERVAL = "WER 95 % interval"


def format_summary(summary: Mapping[str, Any]) -> str:
    """The tables, comparisons and conditions of a summary, which `command.py` describes."""
    lines = _table(summary["figures"])
    reference = summary.get("reference")
    if reference is not None:
        lines += ["", f"Divided by {reference}:", "", *_table(summary["ratios"])]
        for title, comparison in summary["comparisons"].items():
            difference, low, high, improvement = comparison.values()
            lines += [
                "",
                f"WER of {title} minus WER of {reference}: {_points(difference)} points (95 % interval "
                f"{_points(low)} to {_points(high)}); probability of improvement {improvement:.3f}",
            ]
        differing = summary["differing conditions"]
        lines += ["", f"Conditions that differ: {', '.join(differing) or 'none'}"]
    for title, values in {**summary["conditions"], "this report was made on": summary["made on"]}.items():
        lines += ["", f"{title}:", "", *(f"- {name}: {value}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _table(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A table with a row for each label that a column has."""
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [["", *(title.replace("|", "\\|") for title in columns)], ["---"] + ["---:"] * len(columns)]
    for label in labels:
        if label == LOW:
            rows.append([_INTERVAL, *map(_interval, columns.values())])
        elif label != HIGH:  # in the row of the low end
            rows.append([label, *(_number(column[label]) if label in column else "" for column in columns.values())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["| " + " | ".join(map(_align, row, widths, range(len(row)))) + " |" for row in rows]


def _interval(column: Mapping[str, float]) -> str:
    return f"{_number(column[LOW])} to {_number(column[HIGH])}" if LOW in column and HIGH in column else ""


def _align(cell: str, width: int, column: int) -> str:
    if cell.startswith("---"):
        return cell[:-1].ljust(width - 1, "-") + cell[-1]
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}" if value < 10 else f"{value:.2f}"


def _points(rate: float) -> str:
    return f"{100 * rate:.2f}"
