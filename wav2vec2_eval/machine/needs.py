# SPDX-License-Identifier: Apache-2.0
"""Which Python and which packages the suite's programs need, and what a user is told who lacks them.

This file is read before the Python is known to be recent, so its syntax is that of Python 3.7.
"""

from __future__ import annotations

import sys

RECENT, OLDEST = (3, 11), (3, 9)  # of the packages in requirements.txt, and in requirements-npu.txt
ON_OLD_PYTHON = ("pyacl_infer.py", "gears.py", "eval_acc_perf.sh")  # what runs on the Python of an Ascend host
NPU_PACKAGES = ("numpy", "tqdm")


def too_old(program: str) -> str:
    """The error for a Python that is too old for `program`; empty if it is not."""
    oldest = OLDEST if program in ON_OLD_PYTHON else RECENT
    if sys.version_info >= oldest:
        return ""
    only = f"of the scripts, pyacl_infer.py alone runs from {_dotted(OLDEST)} on, for .om models; "
    if program in ON_OLD_PYTHON:
        only = ""
    return f"expected Python {_dotted(oldest)} or newer, found {_found()}; {only}see docs/ascend.md"


def lacking(error: ImportError, program: str) -> str:
    """The message for a package that `program` cannot import, with the command that installs it on this Python."""
    package = str(error.name).partition(".")[0]
    if package == __name__.partition(".")[0]:
        return f"{error}; this copy of the suite is not complete, or of two versions: copy wav2vec2_eval/ again"
    if package.startswith("_") or package in getattr(sys, "stdlib_module_names", ()):  # which Python 3.9 lacks
        return f"this Python was built without its module {package!r}; use another Python"
    recent = sys.version_info >= RECENT
    requirements = "requirements.txt" if recent else "requirements-npu.txt"
    if not isinstance(error, ModuleNotFoundError):
        return f"a Python package cannot be loaded ({error}); install {requirements} again"
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
