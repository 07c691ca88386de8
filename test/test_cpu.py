# SPDX-License-Identifier: Apache-2.0
"""Proves what the suite reads of the processor on x86_64, on aarch64 and on a system without /proc/cpuinfo."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from wav2vec2_eval.machine import cpu


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        ("model name\t: A CPU\nflags\t\t: fpu avx_vnni\n\nmodel name\t: A CPU\n", "cpu (A CPU)", {"fpu", "avx_vnni"}),
        ("processor : 0\nFeatures : fp asimddp\n", f"cpu ({platform.machine()})", {"fp", "asimddp"}),
        (None, f"cpu ({platform.machine()})", set()),
    ],
)
def test_name_and_features_of_the_processor(monkeypatch, text, name, features):
    def read_text(*_args, **_options):
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    assert (cpu.cpu_name(), cpu.cpu_features()) == (name, features)


@pytest.mark.parametrize(
    ("features", "lacks"),
    [
        ({"fpu", "sse2", "avx2", "fma"}, True),
        ({"sse2", "avx512f", "avx512_vnni"}, False),
        ({"sse2", "avx512f", "avx512_bf16"}, False),
        ({"sse2", "avx2", "avx_vnni", "avx_ne_convert"}, False),
        ({"sse2", "avx2", "avx_vnni"}, False),  # an older Linux does not list avx_ne_convert
        ({"fp", "asimddp"}, False),  # not x86_64
        (set(), False),  # not known
    ],
)
def test_a_processor_without_bfloat16(monkeypatch, features, lacks):
    monkeypatch.setattr(cpu, "cpu_features", lambda: features)
    assert cpu.lacks_bfloat16() is lacks


@pytest.mark.parametrize(("allowed", "all_cores", "threads"), [({0, 3}, 8, 2), (None, 8, 8), (None, None, 1)])
def test_default_threads_are_the_cores_that_this_process_may_use(monkeypatch, allowed, all_cores, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: all_cores)
    if allowed is None:  # as on macOS
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed, raising=False)
    assert cpu.default_threads() == threads
