# SPDX-License-Identifier: Apache-2.0
"""Lets two of OpenVINO's requests come to their first inference at the same moment; prints how many results there are.

python start_two_openvino_requests.py MODEL

Ends with status 1 and the stacks of its threads if they wait for each other.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
from pathlib import Path

import numpy as np
from openvino.utils.data_helpers import data_dispatcher

from wav2vec2_eval.engines.openvino_cpu import OpenVinoEngine

both = threading.Barrier(2)
get_request_tensor = data_dispatcher.get_request_tensor


def get_together(*arguments: object) -> object:
    tensor = get_request_tensor(*arguments)
    both.wait()
    return tensor


faulthandler.dump_traceback_later(60, exit=True)
data_dispatcher.get_request_tensor = get_together
with OpenVinoEngine(Path(sys.argv[1]), num_threads=2, in_flight=2) as engine:
    sys.setswitchinterval(1e-6)
    print(sum(1 for _ in engine.stream([[np.zeros((1, 400), np.float32)]] * 2)))
