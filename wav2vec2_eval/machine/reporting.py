# SPDX-License-Identifier: Apache-2.0
"""Libraries that report their use over the network: switched off before any of them is imported.

The package's `__init__` calls `switch_off_reporting`, so this holds in every process of the suite. Child processes
inherit the environment variables.
"""

from __future__ import annotations

import os
import sys

# Environment variable -> value. Each is read when its library is imported.
_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.31 and later, on by default (its docs/Privacy.md)
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, datasets, transformers
    "NNCF_CI": "1",  # NNCF (nncf/telemetry/wrapper.py)
    "RAY_USAGE_STATS_ENABLED": "0",
}


def switch_off_reporting() -> None:
    """Keep every library that the suite uses from sending, and from writing ids for it below HOME."""
    os.environ.update(_SWITCHES)
    # OpenVINO and NNCF report through this package, which has no switch. Both work without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import fail
