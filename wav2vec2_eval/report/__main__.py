# SPDX-License-Identifier: Apache-2.0
"""The command `python -m wav2vec2_eval.report`."""

from __future__ import annotations

from .. import cli
from .command import main

if __name__ == "__main__":
    cli.run(main)
