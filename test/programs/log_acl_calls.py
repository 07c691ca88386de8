# SPDX-License-Identifier: Apache-2.0
"""Infers zeros on the NPU, and prints what was called: {"calls": [[function, argument, …], …], "error": text or null}.

python log_acl_calls.py SYNC LENGTH …    SYNC is 0 or 1; one LENGTH in samples for each utterance
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_eval.engines.npu.acl_runtime import Acl
from wav2vec2_eval.engines.npu.engine import NpuEngine
from wav2vec2_eval.errors import SuiteError

calls: list[list[str]] = []
call = Acl.call


def logged(self: Acl, function: str, *arguments: Any) -> Any:
    calls.append([function, *map(repr, arguments)])
    return call(self, function, *arguments)


Acl.call = logged  # type: ignore[method-assign]
lengths = map(int, sys.argv[2:])
error = None
try:
    with NpuEngine(Path("models/wav2vec2-base-960h.om"), 0, sync_infer=sys.argv[1] == "1", cpu_run=True) as engine:
        for _ in engine.stream([np.zeros((1, length), np.float32)] for length in lengths):
            pass
except SuiteError as refused:
    error = str(refused)
print(json.dumps({"calls": calls, "error": error}))
