# SPDX-License-Identifier: Apache-2.0
"""Opens a model in two OpenVINO engines, closes both, and gets a signal, which must not kill the process.

python close_two_openvino_engines.py MODEL HOW    HOW is "in the order of opening" or "in another thread"
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from pathlib import Path

from wav2vec2_eval.engines.choose import open_engine

engines = [open_engine(Path(sys.argv[1]), num_threads=1, engine="openvino") for _ in range(2)]
if sys.argv[2] == "in the order of opening":
    while engines:
        engines.pop(0).close()
        gc.collect()
else:
    thread = threading.Thread(target=engines.clear)
    thread.start()
    thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("caught")
