#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run the property tests of test_fuzz.py with another seed, and with more damages of each file than run_tests.sh.
set -euo pipefail

if [[ ! ${1:-} =~ ^[0-9]+$ || ! ${2:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "fuzz.sh: error: expected a seed and a number, as in: bash test/fuzz.sh 1 500" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test/environment.sh
source test/environment.sh
PYTHON=$(python_with test/requirements.txt)
export PYTHON
FUZZ_NUMBER=$2 exec "$PYTHON" -m pytest test/test_fuzz.py --hypothesis-seed="$1" "${@:3}"
