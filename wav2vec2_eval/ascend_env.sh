# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the shell scripts share about an Ascend host. To be sourced.

# Put CANN's tools on PATH: nothing to do if atc is there, otherwise source the first set_env.sh of the usual places
# (CANN 8.5 and later install under cann/, earlier versions under ascend-toolkit/). Fails if there is none.
source_cann() {
    command -v atc >/dev/null && return 0
    local folder
    for folder in "${ASCEND_TOOLKIT_HOME:-}" "${ASCEND_TOOLKIT_HOME:+$ASCEND_TOOLKIT_HOME/..}" \
        /usr/local/Ascend/cann /usr/local/Ascend/ascend-toolkit \
        "${HOME:-}/Ascend/cann" "${HOME:-}/Ascend/ascend-toolkit"; do
        if [[ -n "$folder" && -f "$folder/set_env.sh" ]]; then
            set +u # vendor scripts read variables that may be unset
            # shellcheck disable=SC1091
            source "$folder/set_env.sh"
            set -u
            command -v atc >/dev/null && return 0 # or it belongs to an installation without the compiler
        fi
    done
    return 1
}

# Keep the current folder off the module path of every Python that is started from here on. An empty entry of PYTHONPATH
# stands for the current folder, and some set_env.sh leave one.
leave_out_current_folder() {
    export PYTHONSAFEPATH=1
    if [[ -n ${PYTHONPATH:-} ]]; then PYTHONPATH=$(sed -E 's/:+/:/g; s/^:|:$//g' <<<"$PYTHONPATH"); fi
}

# Print the SoC name of this host's first NPU, for example Ascend310P3; nothing if there is none.
# npu-smi has a row "| <npu id> <name> | …" for each NPU, and its name lacks the prefix that ATC wants.
detect_soc() {
    command -v npu-smi >/dev/null || return 0
    local row='^\|[[:space:]]*[0-9]+[[:space:]]+([0-9]{3}[0-9A-Za-z_-]*)[[:space:]]*\|.*'
    { npu-smi info 2>/dev/null || true; } | sed -nE "s/$row/Ascend\\1/p" | sed -n 1p
}
