# SPDX-License-Identifier: Apache-2.0
"""Proves which Python the shell scripts accept: one with every required package in the same major version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from conftest import ROOT

NUMPY = version("numpy")
MAJOR = NUMPY.split(".")[0]


@pytest.mark.parametrize(
    ("requirements", "good"),
    [
        (f"numpy=={NUMPY}\n", True),
        (f"# a comment\nnumpy=={MAJOR}.0.99\n", True),  # another minor version will do
        (f"numpy=={int(MAJOR) + 1}.0.0\n", False),
        ("torch==1.0.0\n", True),  # any: an Ascend host's belongs to its torch_npu
        ("there-is-no-such-package==1.0\n", False),
        ('there-is-no-such-package==1.0; platform_machine == "vax"\n', True),  # not for this host
        (f"-r more.txt\nnumpy=={NUMPY}\n", False),
    ],
)
def test_which_packages_will_do(tmp_path, requirements, good):
    (tmp_path / "requirements.txt").write_text(requirements)
    (tmp_path / "more.txt").write_text("there-is-no-such-package==1.0\n")
    command = f'source "{ROOT}/test/environment.sh"; _has_packages "{sys.executable}" "{tmp_path}/requirements.txt"'
    assert (subprocess.run(["bash", "-c", command], check=False).returncode == 0) == good
