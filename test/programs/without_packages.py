# SPDX-License-Identifier: Apache-2.0
"""As sitecustomize.py: the packages named in BLOCKED, with commas between, cannot be imported.

Python says that it is of the VERSION, such as 3.8.10, if that is set. At the end of the script, the files of all its
modules are written to the file MODULES, one per line, if that is set.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

BLOCKED = set(os.environ["BLOCKED"].split(","))
MODULES = os.environ.get("MODULES")


class Finder:
    """Asked before all other finders of modules."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked by the test", name=name)


def list_modules(path: str) -> None:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    Path(path).write_text("".join(f"{file}\n" for file in sorted(filter(None, files))), encoding="utf-8")


sys.meta_path.insert(0, Finder())
if "VERSION" in os.environ:
    sys.version_info = (*map(int, os.environ["VERSION"].split(".")), "final", 0)  # type: ignore[assignment]
if MODULES:
    atexit.register(list_modules, MODULES)
