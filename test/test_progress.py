# SPDX-License-Identifier: Apache-2.0
"""Proves when and how a script says how far it has come: as a bar, as lines, or not at all."""

from __future__ import annotations

import io
import re
from itertools import count

import pytest

from wav2vec2_eval.machine import progress, terminal
from wav2vec2_eval.machine.progress import format_line, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    monkeypatch.delenv(progress.DISABLE)


def show(total, seconds_each, stream=None, **options):
    """What is shown of `total` items that take `seconds_each` on a clock that no test waits for."""
    stream = stream or io.StringIO()
    clock = (seconds_each * number for number in count())
    items = track(range(total), total, stream=stream, clock=lambda: next(clock), **options)
    assert list(items) == list(range(total))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("total", "seconds_each", "shown_at"),
    [
        (0, 1, []),
        (1, 100, []),  # nothing is left when it is done
        (50, 0.1, []),  # 5 s
        (20, 1, [15]),  # 20 s: not sooner than after 15 s
        (100, 1, [15, 30, 45, 60, 75, 90]),  # 100 s: each tenth would be more often than every 15 s
        (200, 1, list(range(20, 200, 20))),  # at each tenth
        (1_000, 1, list(range(30, 1_000, 30))),  # 30 s come sooner than a tenth
        (5, 40, [1, 2, 3, 4]),  # no item ends sooner
    ],
)
def test_lines_are_rare_and_regular(total, seconds_each, shown_at):
    found = [int(line.partition(" of ")[0]) for line in show(total, seconds_each).splitlines()]
    assert found == shown_at


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "1 of 4 utterances (25 %), 02:00 left"),
        ({"audio_s": lambda _: 100}, "1 of 4 utterances (25 %), RTFx 2.5, 02:00 left"),
        ({"audio_s": lambda _: 0}, "1 of 4 utterances (25 %), 02:00 left"),
        ({"unit": "gears", "title": "400 samples"}, "400 samples: 1 of 4 gears (25 %), 02:00 left"),
    ],
)
def test_a_line_says_what_is_known(options, expected):
    assert show(4, 40, **options).splitlines()[0] == expected


def test_a_long_run_shows_hours():
    assert format_line(100, 10_000, "utterances", 0, 100) == "100 of 10000 utterances (1 %), 2:45:00 left"


def test_a_bar_has_blanks_where_they_belong():
    bars = show(4, 40, Terminal(), audio_s=lambda _: 100).replace("\r", "\n").splitlines()
    assert re.fullmatch(r"  0 % \| +\| 0 of 4, \? utterances/s, \? left", bars[1])
    assert re.fullmatch(r"100 % \|[^ |]+\| 4 of 4, [\d.]+ utterances/s, RTFx 2\.5, 00:00 left", bars[-1])


def test_one_of_several_bars_disappears():
    shown = show(4, 1, Terminal(), unit="gears", title="400 samples")
    assert "400 samples:   0 % |" in shown and " gears/s" in shown
    assert shown.endswith("\r")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_shows_nothing(stream, monkeypatch):
    monkeypatch.setattr(terminal, "_is_quiet", True)
    assert show(4, 40, stream()) == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_variable_of_tqdm_switches_it_off(stream, monkeypatch):
    monkeypatch.setenv(progress.DISABLE, "1")
    assert show(4, 40, stream()) == ""


def test_an_error_of_the_work_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(track((1 // number for number in (1, 0)), 2, stream=Terminal()))
