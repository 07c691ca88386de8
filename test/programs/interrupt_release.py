# SPDX-License-Identifier: Apache-2.0
"""Opens and closes the NPU engine, and gets SIGINT during the release; prints "interrupted" when SIGINT arrives.

A second thread runs, because the system may deliver a signal to any thread of a process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from wav2vec2_eval.engines.npu.acl_runtime import Acl
from wav2vec2_eval.engines.npu.engine import NpuEngine

threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
call = Acl.call


def call_and_interrupt(self: Acl, function: str, *arguments: Any) -> Any:
    if function in ("acl.rt.free", "acl.rt.destroy_stream"):
        os.kill(os.getpid(), signal.SIGINT)
    return call(self, function, *arguments)


Acl.call = call_and_interrupt  # type: ignore[method-assign]
try:
    with NpuEngine(Path("models/wav2vec2-base-960h.om"), 0, sync_infer=False, cpu_run=True):
        pass
except KeyboardInterrupt:
    print("interrupted")
