# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Find or make a Python that has a requirements file's packages. To be sourced.
# No Python that is started here imports anything from the current folder.

# Prints the path of the first Python that is 3.$1 or newer: $PYTHON (else python3), python3.13, python3.12 or python3.11.
recent_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -I -c "import sys; sys.exit(sys.version_info < (3, $1))" 2>/dev/null; then
            candidate=$(command -v -- "$candidate")
            [[ $candidate == /* ]] || candidate=$PWD/$candidate
            echo "$candidate"
            return
        fi
    done
    echo "error: expected Python 3.$1 or newer, found none; set PYTHON to one" >&2
    return 2
}

# Prints the path of a Python for the requirements file $1: the one that runs here ($PYTHON, else python3) if it has
# every package, otherwise that of an environment made beside this file. Progress goes to stderr.
python_with() {
    local requirements=$1 environment candidate
    environment=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)/.venv
    for candidate in "${PYTHON:-python3}" "$environment/bin/python"; do
        if _has_packages "$candidate" "$requirements"; then
            echo "$candidate"
            return
        fi
    done
    candidate=$(recent_python 11) || return
    echo "making the Python environment $environment from $requirements" >&2
    "$candidate" -I -m venv "$environment" >&2 &&
        "$environment/bin/python" -I -m pip install --quiet --requirement "$requirements" >&2 || return
    echo "$environment/bin/python"
}

# Whether Python $1 is recent and has every package of the requirements file $2. User site and PYTHONPATH count.
_has_packages() {
    "$1" "$(dirname "${BASH_SOURCE[0]}")/has_packages.py" "$2" 2>/dev/null
}
