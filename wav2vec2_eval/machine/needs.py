# SPDX-License-Identifier: Apache-2.0
"""Which Python and which packages the suite's programs need, and what a user is told who lacks them.

This file is read before the Python is known to be recent, so its syntax is that of Python 3.7.
"""

from __future__ import annotations

import sys

RECENT = (3, 11)  # of the packages in requirements.txt
# What runs on the Python of an Ascend host, with the packages in requirements-npu.txt.
ON_OLD_PYTHON = {"pyacl_infer.py": (3, 9), "gears.py": (3, 9), "eval_acc_perf.sh": (3, 9)}
NPU_PACKAGES = ("numpy", "tqdm")


def too_old(program: str) -> str:
    """The error for a Python that is too old for `program`; empty if it is not."""
    oldest = ON_OLD_PYTHON.get(program, RECENT)
    if sys.version_info >= oldest:
        return ""
    only = "" if program in ON_OLD_PYTHON else "of the scripts, pyacl_infer.py alone runs from 3.9 on, for .om models; "
    return f"expected Python {_dotted(oldest)} or newer, found {_found()}; {only}see docs/ascend.md"


def lacking(error: ImportError, program: str) -> str:
    """The message for a package that `program` cannot import, with the command that installs it on this Python."""
    recent = sys.version_info >= RECENT
    requirements = "requirements.txt" if recent else "requirements-npu.txt"
    if not isinstance(error, ModuleNotFoundError):
        return f"a Python package cannot be loaded ({error}); install {requirements} again"
    package = str(error.name).partition(".")[0]
    if not recent and package not in NPU_PACKAGES:
        remedy = f"requirements.txt has it, for Python {_dotted(RECENT)} or newer; found {_found()}"
    elif recent and package in NPU_PACKAGES and program in ON_OLD_PYTHON:
        remedy = f"pip install -r {requirements} (requirements-npu.txt is enough for .om models)"
    else:
        remedy = f"pip install -r {requirements}"
    return f"the Python package {package!r} is missing; {remedy}"


def _found() -> str:
    return _dotted(sys.version_info[:3])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
