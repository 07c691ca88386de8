# SPDX-License-Identifier: Apache-2.0
"""Proves that captions hold every word once, in order and in bounds, and that a parser reads the .srt as written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec2_eval.speech.captions import LINE_LENGTH, LINES, LONGEST_S, PAUSE_S, Caption, captions, format_srt
from wav2vec2_eval.speech.words import Word

_BLOCK = re.compile(r"(\d+)\n(\d{2,}):(\d\d):(\d\d),(\d{3}) --> (\d{2,}):(\d\d):(\d\d),(\d{3})\n((?:.+\n)+)\n")


def parse(text: str) -> list[Caption]:
    """Read a .srt file, all of it."""
    found: list[Caption] = []
    while text:
        match = _BLOCK.match(text)
        assert match, text
        number, *times = map(int, match.groups()[:9])
        assert number == len(found) + 1
        start, end = (times[at : at + 4] for at in (0, 4))
        start_ms, end_ms = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (start, end))
        found.append(Caption(start_ms / 1000, end_ms / 1000, tuple(match[10].splitlines())))
        text = text[match.end() :]
    return found


def spoken(*texts_and_frames: tuple[str, int, int]) -> list[Word]:
    return [Word(text, start / 50, end / 50, 1.0) for text, start, end in texts_and_frames]


def test_the_text_of_a_srt_file():
    shown = captions(spoken(("HELLO", 62, 80), ("WORLD", 90, 155), ("AGAIN", 300, 301)))
    assert format_srt(shown) == (
        "1\n00:00:01,240 --> 00:00:03,100\nHELLO WORLD\n\n2\n00:00:06,000 --> 00:00:06,020\nAGAIN\n\n"
    )


def test_no_words_give_no_captions():
    assert format_srt(captions([])) == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("A", 0, 1), ("B", 40, 41)], [("A B",)]),  # a pause of 780 ms
        ([("A", 0, 1), ("B", 41, 42)], [("A",), ("B",)]),  # 800 ms
        ([("A", 0, 280), ("B", 281, 300)], [("A B",)]),  # 6 s
        ([("A", 0, 280), ("B", 281, 301)], [("A",), ("B",)]),
        ([("A", 0, 5000)], [("A",)]),
        ([("X" * 100, 0, 1), ("B", 1, 2)], [("X" * 100, "B")]),
        ([("X" * 42, 0, 1), ("X" * 42, 1, 2), ("B", 2, 3)], [("X" * 42, "X" * 42), ("B",)]),
        ([("X" * 39, 0, 1), ("BC", 1, 2), ("D", 2, 3)], [("X" * 39 + " BC", "D")]),
    ],
)
def test_where_a_caption_and_a_line_end(words, expected):
    assert [caption.lines for caption in captions(spoken(*words))] == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "00:00:00,000"),
        (59.98, "00:00:59,980"),
        (59.9996, "00:01:00,000"),
        (3599.999, "00:59:59,999"),
        (3661.02, "01:01:01,020"),
        (360000.0, "100:00:00,000"),
    ],
)
def test_times_are_written_in_hours_minutes_seconds_and_milliseconds(seconds, expected):
    assert format_srt([Caption(seconds, seconds, ("A",))]).split("\n")[1] == f"{expected} --> {expected}"


SPOKEN = st.lists(st.tuples(st.text("ABCDÉ你'", min_size=1, max_size=60), st.integers(1, 400), st.integers(-20, 60)))


@given(SPOKEN)
def test_captions_hold_every_word_once_in_order_and_without_overlaps(described):
    """Words overlap where the pause before them is negative, as those that were heard in the padding."""
    words, now, earliest = [], 0, 0
    for text, frames, pause in described:
        earliest = max(now + pause, earliest)
        now = max(now, earliest + frames)
        words += spoken((text, earliest, now))
    shown = parse(format_srt(captions(words)))
    texts = [line.split(" ") for caption in shown for line in caption.lines]
    assert [text for line in texts for text in line] == [word.text for word in words]
    assert all(caption.start_s <= caption.end_s for caption in shown)
    assert all(one.end_s <= other.start_s for one, other in zip(shown, shown[1:]))
    assert [caption.start_s for caption in shown[:1]] == [word.start_s for word in words[:1]]
    assert [caption.end_s for caption in shown[-1:]] == [word.end_s for word in words[-1:]]
    waiting = iter(words)
    for caption in shown:
        own = [next(waiting) for line in caption.lines for _ in line.split(" ")]
        assert len(caption.lines) <= LINES
        assert all(len(line) <= LINE_LENGTH or " " not in line for line in caption.lines)
        assert len(own) == 1 or round(own[-1].end_s - own[0].start_s, 3) <= LONGEST_S
        assert all(round(after.start_s - before.end_s, 3) < PAUSE_S for before, after in zip(own, own[1:]))
