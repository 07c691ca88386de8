# SPDX-License-Identifier: Apache-2.0
"""Proves which Python the shell scripts choose: a recent one, with every required package in the same major version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

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


@pytest.mark.parametrize("name", ["python9", "./bin/python9", "bin/python9"])
def test_the_python_is_known_by_its_full_path(tmp_path, name):
    """CANN's set_env.sh may put another python3 on PATH, and the demo changes the current folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python9").symlink_to(sys.executable)
    done = subprocess.run(
        ["bash", "-c", f'source "{ROOT}/test/environment.sh"; recent_python 9'],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHON": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).samefile(tmp_path / "bin/python9")
    assert done.stdout.startswith(f"{tmp_path}/")
