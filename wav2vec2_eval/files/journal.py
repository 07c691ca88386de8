# SPDX-License-Identifier: Apache-2.0
"""The journal of an inference, `results.tsv`: one line for each utterance whose results are complete.

After the header, a line has the key, pure, wall, device and elapsed time in milliseconds ("-" if not known), and the
type and shape of each output in a field of its own. A line is written after the last output of its utterance. So a line
stands for a complete result, even after `kill -9`; a last line without its newline is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..speech.latency import Latency
from .file_list import Source
from .names import JOURNAL_NAME
from .table import Table
from .tensors import DTYPE
from .text import read_bytes

HEADER = "key\tpure_ms\twall_ms\tdevice_ms\telapsed_ms\toutputs\n"
_OUTPUT = re.compile(r"(?P<dtype>\w{1,9}) \((?P<shape>\d{1,12}(,\d{1,12}){,7})\)", re.ASCII)


class Output(NamedTuple):
    """One output tensor."""

    dtype: np.dtype
    shape: tuple[int, ...]


class Finished(NamedTuple):
    """A line of the journal."""

    latency: Latency
    outputs: tuple[Output, ...]


Journal = Mapping[str, Finished]


def read_journal(source: Source, whole: bool = True) -> Journal:
    """Read the journal of a results folder: key -> Finished. Raises SuiteError if it is missing or malformed.

    `whole`: the run has ended, so the content is verified.
    """
    path = source.folder / JOURNAL_NAME
    advice = "expected a results folder of pyacl_infer.py, run that again"
    content = source.read(JOURNAL_NAME, advice) if whole else read_bytes(path, advice)
    header = HEADER.encode()
    if not content.startswith(header):  # of an older version, or of a run that was killed while it wrote the header
        header = b""
    journal = Table(path, content, _parse, advice, appended=True, header=header)
    if source.list is None or not whole:  # otherwise the file is as it was written
        journal.check()
    return journal


def format_finished(key: str, item: Finished) -> str:
    """A line of the journal, with its newline."""
    times = ("-" if time_ms is None else f"{time_ms:.6f}" for time_ms in item.latency)
    return "\t".join([key, *times, *map(format_output, item.outputs)]) + "\n"


def format_output(spec: Output) -> str:
    """Type and shape as the journal writes them: `float32 (1,312,32)`."""
    return f"{spec.dtype.name} ({','.join(map(str, spec.shape))})"


def _parse(lines: Sequence[str]) -> Finished:
    _key, pure, wall, device, elapsed, *outputs = lines[0].split("\t")
    if not outputs:
        raise ValueError("no output")
    pure_ms, wall_ms = _time(pure), _time(wall)
    device_ms, elapsed_ms = (None if text == "-" else _time(text) for text in (device, elapsed))
    return Finished(Latency(pure_ms, wall_ms, device_ms, elapsed_ms), tuple(map(_parse_output, outputs)))


def _time(text: str) -> float:
    time_ms = float(text)
    if not 0 <= time_ms < math.inf:
        raise ValueError(text)
    return time_ms


def _parse_output(text: str) -> Output:
    match = _OUTPUT.fullmatch(text)
    if not match or match["dtype"] not in DTYPE:
        raise ValueError(text)
    return Output(DTYPE[match["dtype"]], tuple(int(axis) for axis in match["shape"].split(",")))
