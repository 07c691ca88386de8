#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run every check: lint, format, types, shell scripts, tests. Makes its own Python environment if need be.
# Arguments go to pytest, for example: bash test/run_tests.sh -k manifest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=test/environment.sh
source test/environment.sh
PYTHON=$(python_with test/requirements.txt)
export PYTHON

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
# As strictly as `mypy --strict`, except for the tests (pyproject.toml).
"$PYTHON" -m mypy ./*.py wav2vec2_eval test test/emulator/python/site-packages/*
scripts=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')
find . -name '*.sh' -not -path '*/.venv/*' -print0 | xargs -0 "$scripts/shellcheck" .ci/run test/emulator/bin/*
"$PYTHON" -m pytest "$@"
