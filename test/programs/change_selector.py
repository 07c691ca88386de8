# SPDX-License-Identifier: Apache-2.0
"""Opens a model whose selector of gears has another type and size; prints "works" or the error.

python change_selector.py TYPE SIZE    TYPE is an aclDataType; SIZE is in bytes
"""

from __future__ import annotations

import sys
from pathlib import Path

import acl

from wav2vec2_eval.engines.npu.engine import NpuEngine
from wav2vec2_eval.errors import SuiteError

SELECTOR = 1  # the model's second input
CHANGED = dict(zip(("get_input_data_type", "get_input_size_by_index"), map(int, sys.argv[1:])))


def change(name: str, value: int) -> None:
    function = getattr(acl.mdl, name)
    setattr(acl.mdl, name, lambda desc, index: value if index == SELECTOR else function(desc, index))


for name, value in CHANGED.items():
    change(name, value)
try:
    with NpuEngine(Path("models/wav2vec2-base-960h.om"), 0, sync_infer=True, cpu_run=True):
        print("works")
except SuiteError as error:
    print(error)
