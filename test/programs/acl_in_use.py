# SPDX-License-Identifier: Apache-2.0
"""Initialises acl, opens and closes the NPU engine twice, and finalises acl, as another part of the process would.

python acl_in_use.py FINALIZE    FINALIZE is finalize or finalize_reference
"""

from __future__ import annotations

import sys
from pathlib import Path

import acl

from wav2vec2_eval.engines.choose import open_engine


def check(result: object) -> None:
    if result not in (0, (0, 0)):
        sys.exit(f"expected success, found {result}")


check(acl.init())
for _ in range(2):
    with open_engine(Path("models/wav2vec2-base-960h.om"), num_threads=1):
        pass
check(getattr(acl, sys.argv[1])())
