# SPDX-License-Identifier: Apache-2.0
"""Captions of a recording, in the SubRip format (.srt) that video players read. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .words import Word

PAUSE_S = 0.8  # a longer pause between two words ends a caption
LONGEST_S = 6.0  # of a caption
LINES = 2  # of a caption
LINE_LENGTH = 42  # characters


class Caption(NamedTuple):
    """What is shown at one time."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


def captions(words: Iterable[Word]) -> list[Caption]:
    """Divide the words of a recording, in order, into captions: each is shown from its first word to its last one.

    A caption ends before a pause, and before it would get longer than LONGEST_S, or than LINES lines. Words are not
    divided: only a word that is longer than all this exceeds it, alone in its caption or line. No caption overlaps the
    next one.
    """
    found: list[Caption] = []
    for word in words:
        last = found[-1] if found else None
        lines = _append(last.lines, word.text) if last else ()
        if (
            last is None
            or round(word.start_s - last.end_s, 3) >= PAUSE_S  # 0.82 - 0.02 is less than 0.8
            or round(word.end_s - last.start_s, 3) > LONGEST_S
            or len(lines) > LINES
        ):
            if last is not None:  # words overlap where they were heard in the padding
                found[-1] = last._replace(end_s=min(last.end_s, word.start_s))
            found.append(Caption(word.start_s, word.end_s, (word.text,)))
        else:
            found[-1] = Caption(last.start_s, word.end_s, lines)
    return found


def _append(lines: tuple[str, ...], text: str) -> tuple[str, ...]:
    """Lines with one more word: at the end of the last line if it fits, or else in a new one."""
    longer = f"{lines[-1]} {text}"
    return (*lines[:-1], longer) if len(longer) <= LINE_LENGTH else (*lines, text)


def format_srt(shown: Iterable[Caption]) -> str:
    """The text of a .srt file; empty without captions."""
    return "".join(
        "\n".join([str(number), f"{_format_time(start_s)} --> {_format_time(end_s)}", *lines, "", ""])
        for number, (start_s, end_s, lines) in enumerate(shown, 1)
    )


def _format_time(seconds: float) -> str:
    """`00:00:01,240`; hours have more digits after 99."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
