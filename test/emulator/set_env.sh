# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Source this file like the set_env.sh of a CANN installation: scripts then find the emulated atc, npu-smi and acl.
ASCEND_TOOLKIT_HOME=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export ASCEND_TOOLKIT_HOME
export ASCEND_HOME_PATH="$ASCEND_TOOLKIT_HOME"
export ASCEND_OPP_PATH="$ASCEND_TOOLKIT_HOME/opp"
export ASCEND_AICPU_PATH="$ASCEND_TOOLKIT_HOME"
export PATH="$ASCEND_TOOLKIT_HOME/bin:$PATH"
export PYTHONPATH="$ASCEND_TOOLKIT_HOME/python/site-packages${PYTHONPATH:+:$PYTHONPATH}"
