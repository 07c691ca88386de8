# SPDX-License-Identifier: Apache-2.0
"""Proves that what a script says is silenced by --quiet, and by nothing else."""

from __future__ import annotations

from wav2vec2_eval.machine import terminal


def test_quiet_leaves_out_what_is_said(capsys):
    try:
        for quiet in (False, True, False):
            terminal.be_quiet(quiet)
            terminal.say(f"quiet: {quiet}\nand more")
            assert terminal.is_quiet() == quiet
    finally:
        terminal.be_quiet(False)
    assert capsys.readouterr() == ("quiet: False\nand more\n" * 2, "")
