# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Find or make a Python that has a requirements file's packages. To be sourced.

# Prints the path of a Python for the requirements file $1: the one that runs here ($PYTHON, else python3) if it has
# every package, otherwise that of an environment made beside this file. Progress goes to stderr.
python_with() {
    local requirements=$1 python=${PYTHON:-python3} environment candidate
    environment=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)/.venv
    for candidate in "$python" "$environment/bin/python"; do
        if _has_packages "$candidate" "$requirements"; then
            echo "$candidate"
            return
        fi
    done
    for candidate in "$python" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "making the Python environment $environment from $requirements" >&2
            "$candidate" -m venv "$environment" >&2 &&
                "$environment/bin/python" -m pip install --quiet --requirement "$requirements" >&2 || return
            echo "$environment/bin/python"
            return
        fi
    done
    echo "error: expected Python 3.11 or newer, found none; set PYTHON to one" >&2
    return 2
}

# Whether Python $1 is recent and has every package of the requirements file $2 in the same major version. Of torch any
# will do: an Ascend host's belongs to its torch_npu. The versions in use are printed with every result.
_has_packages() {
    "$1" - "$2" 2>/dev/null <<'PYTHON'
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path


def check(path):
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
PYTHON
}
