# SPDX-License-Identifier: Apache-2.0
"""Infers asynchronously, 500 ms between two inputs; prints [[step, …], [pure milliseconds, …]].

python read_slowly.py CPU_RUN    CPU_RUN is 0 or 1
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_eval.engines.npu.engine import NpuEngine

steps: list[str] = []


class Logged(NpuEngine):
    def _queue(self, *arguments: Any) -> Any:
        steps.append("queue")
        return super()._queue(*arguments)

    def _collect(self, *arguments: Any) -> Any:
        steps.append("collect")
        return super()._collect(*arguments)


def slow_inputs() -> Iterator[list[np.ndarray]]:
    for _ in range(4):
        time.sleep(0.5)
        yield [np.zeros((1, 10_000), np.float32)]


with Logged(Path("models/wav2vec2-base-960h.om"), 0, sync_infer=False, cpu_run=sys.argv[1] == "1") as engine:
    times_ms = [result.pure_ns / 1e6 for result in engine.stream(slow_inputs())]
print(json.dumps([steps, times_ms]))
