# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced, as a CANN installation's own file is: puts the emulated atc, npu-smi and acl in front of any script.
ASCEND_TOOLKIT_HOME=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export ASCEND_TOOLKIT_HOME
export ASCEND_HOME_PATH="$ASCEND_TOOLKIT_HOME"
export ASCEND_OPP_PATH="$ASCEND_TOOLKIT_HOME/opp"
export ASCEND_AICPU_PATH="$ASCEND_TOOLKIT_HOME"
export PATH="$ASCEND_TOOLKIT_HOME/bin:$PATH"
export PYTHONPATH="$ASCEND_TOOLKIT_HOME/python/site-packages${PYTHONPATH:+:$PYTHONPATH}"
