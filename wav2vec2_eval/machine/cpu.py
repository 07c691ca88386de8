# SPDX-License-Identifier: Apache-2.0
"""This host's processor: its name, its instructions, and the cores that this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Without any of them, x86_64 cannot compute in bfloat16. With one of them, the engine decides: AVX-NE-CONVERT comes
# with AVX-VNNI, whose name an older Linux knows, too, and AVX-512 can stand in for AVX512-BF16.
_BFLOAT16_FEATURES = {"avx512_bf16", "avx_vnni", "avx512f"}


def default_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model name as Linux gives it, else its architecture; for the conditions of a result."""
    return f"cpu ({_cpu_info('model name') or platform.machine()})"


def cpu_features() -> set[str]:
    """The processor's instruction sets in Linux's words, such as `avx512_bf16`; empty where Linux gives no list."""
    return set((_cpu_info("flags") or _cpu_info("Features")).split())  # x86_64, aarch64


def lacks_bfloat16() -> bool:
    """Whether this is an x86_64 processor that cannot compute in bfloat16; False where that is not certain."""
    features = cpu_features()
    return "sse2" in features and not features & _BFLOAT16_FEATURES


def _cpu_info(field: str) -> str:
    """A field of /proc/cpuinfo, of the first core; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
