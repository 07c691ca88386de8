# SPDX-License-Identifier: Apache-2.0
"""The command `python -m wav2vec2_eval.report`."""

from __future__ import annotations

import sys
from pathlib import Path

from .. import cli
from .command import main

if __name__ == "__main__":
    sys.argv[0] = f"{Path(__file__).parent}.py"  # the name that messages begin with
    cli.run(main)
