# SPDX-License-Identifier: Apache-2.0
"""The line that says what a script replaces: data, results or scores that the scripts wrote before."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..machine.terminal import say
from ..speech.latency import parse_figures
from ..speech.readable import format_percent
from .names import WER_NAME
from .run import Run


def say_replaced(folder: Path, run: Run, *, is_whole: bool = True, scores_alone: bool = False) -> None:
    """Say that what `run`, the record of `folder`, describes is replaced: before it is.

    `is_whole`: it was finished. `scores_alone`: the results stay.
    """
    what = "scores" if scores_alone else "data" if run.is_of_data else "results"
    unfinished = "" if is_whole else "unfinished "
    facts = [run.precision, _wer(folder) if run.transcriptions else None]
    if run.is_of_data and run.utterances is not None:
        facts.append(f"{run.utterances} utterances")
    known = ", ".join(filter(None, facts))
    of = (run.which_dataset if run.is_of_data else run.model) or run.engine or run.script
    say(f"replacing the {unfinished}{what} of {of}{known and f' ({known})'} in {folder}")


def _wer(folder: Path) -> str | None:
    """The WER that was written into a folder of scores. None if there is none, or no whole one."""
    with suppress(OSError, ValueError, KeyError):
        figures = parse_figures((folder / WER_NAME).read_text(encoding="utf-8"))
        return f"WER {format_percent(figures['WER'])} %"
    return None
