# SPDX-License-Identifier: Apache-2.0
"""Whether this Python is recent and has every package of a requirements file in the same major version: status 0 or 1.

    python has_packages.py FILE

Of torch any version will do: an Ascend host's belongs to its torch_npu. The versions in use are printed with every
result. environment.sh runs this file with any Python 3, by its path, which keeps the current folder off sys.path.
"""

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path


def check(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            check(path.parent / line[3:].strip())
        elif (host := re.search(r"platform_machine == .(\w+)", line)) and host[1] != platform.machine():
            continue
        elif match := re.match(r"([\w-]+)==(\d+)", line):
            found = version(match[1]).split(".")[0]
            if found != match[2] and match[1] != "torch":
                sys.exit(1)


if sys.version_info < (3, 11):
    sys.exit(1)
check(Path(sys.argv[1]))
