#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole evaluation, from audio to one table: accuracy and speed of the suite beside PyTorch.
# This script loads CANN's environment, if there is one, and starts wav2vec2_eval/evaluate.py, which has the options and
# the stages.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=test/environment.sh
source "$root/test/environment.sh"
# shellcheck source=wav2vec2_eval/ascend_env.sh
source "$root/wav2vec2_eval/ascend_env.sh"

PYTHON=$(recent_python 9) # before CANN's environment, which may have a python3 of its own
export PYTHON
source_cann || true # evaluate.py reports what is missing

# -I: Python imports nothing from the current folder. evaluate.py needs the standard library only.
exec "$PYTHON" -I -c '
import sys
sys.path.insert(0, sys.argv[1])
sys.argv[:2] = ["eval_acc_perf.sh"]
from wav2vec2_eval.machine.start import prepare
prepare(sys.argv[0])
from wav2vec2_eval import cli, evaluate
cli.run(evaluate.main)
' "$root" "$@"
