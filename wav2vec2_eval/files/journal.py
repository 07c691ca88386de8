# SPDX-License-Identifier: Apache-2.0
"""The journal of an inference, `results.tsv`: one line for each utterance whose results are complete.

A line has the key, the pure, wall, device and elapsed time in milliseconds ("-" if not known), and the type and shape
of each output. It is written after the last output of the utterance. So a line stands for a complete result, even after
`kill -9`; a last line without its newline is ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError
from ..speech.latency import Latency
from .names import JOURNAL_NAME
from .tensors import DTYPE

_OUTPUT = re.compile(r"(?P<dtype>\w+) \((?P<shape>[\d,]+)\)", re.ASCII)


class Output(NamedTuple):
    """One output tensor."""

    dtype: np.dtype
    shape: tuple[int, ...]


class Finished(NamedTuple):
    """A line of the journal."""

    latency: Latency
    outputs: tuple[Output, ...]


def read_journal(folder: Path) -> dict[str, Finished]:
    """Read the journal: key -> Finished. Raises SuiteError if it is missing or malformed."""
    path = folder / JOURNAL_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file; expected a results folder of pyacl_infer.py, run that first") from None
    finished: dict[str, Finished] = {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break  # the run was killed while it wrote this line
        key, *fields = line.rstrip("\n").split("\t")
        try:
            pure_ms, wall_ms = map(float, fields[:2])
            device_ms, elapsed_ms = (None if field == "-" else float(field) for field in fields[2:4])
            outputs = tuple(map(_parse_output, fields[4:]))
            if not outputs:
                raise ValueError(line)
        except (ValueError, IndexError):
            raise SuiteError(
                f"{path}, line {number}: not a line of a results journal; run pyacl_infer.py again"
            ) from None
        finished[key] = Finished(Latency(pure_ms, wall_ms, device_ms, elapsed_ms), outputs)
    return finished


def format_finished(key: str, item: Finished) -> str:
    """A line of the journal, with its newline."""
    times = ("-" if time_ms is None else f"{time_ms:.6f}" for time_ms in item.latency)
    return "\t".join([key, *times, *map(format_output, item.outputs)]) + "\n"


def format_output(spec: Output) -> str:
    """Type and shape as the journal writes them: `float32 (1,312,32)`."""
    return f"{spec.dtype.name} ({','.join(map(str, spec.shape))})"


def _parse_output(text: str) -> Output:
    match = _OUTPUT.fullmatch(text)
    if not match or match["dtype"] not in DTYPE:
        raise ValueError(text)
    return Output(DTYPE[match["dtype"]], tuple(int(axis) for axis in match["shape"].split(",") if axis))
