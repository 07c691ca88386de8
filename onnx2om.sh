#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compile ./models/<name>.onnx for an Ascend chip: ./models/<name>.om with one gear per input length.
set -euo pipefail

folder=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=wav2vec2_eval/ascend_env.sh
source "$folder/wav2vec2_eval/ascend_env.sh"

usage() {
    cat <<TEXT
Usage: bash onnx2om.sh SOC_VERSION [NAME] [--gears_from=FILE] [ATC_OPTION ...]

Compiles ./models/NAME.onnx to ./models/NAME.om with CANN's atc, for the input lengths 10000, 20000 ... 560000 samples.

  SOC_VERSION        for example Ascend310P3; "Ascend" and the name that npu-smi info shows
  NAME               the model's base name, default wav2vec2-base-960h; a name that ends in -masked has the second
                     input attention_mask
  --gears_from=FILE  compile only the lengths in FILE, one per line, as in ./pre_data/clean/padding_lens.txt
  ATC_OPTION         handed to atc, for example --precision_mode_v2=mixed_float16 or --op_precision_mode=ops.ini
  --version          print the version of the suite, and end
TEXT
    local soc
    soc=$(detect_soc)
    if [[ -n "$soc" ]]; then printf '\nThis host has: bash onnx2om.sh %s\n' "$soc"; fi
}

version() { # that of the suite
    printf 'onnx2om.sh '
    sed -n 's/^__version__ = "\([^"]*\)".*/\1/p' "$folder/wav2vec2_eval/__init__.py"
}

fail() { # status message
    echo "onnx2om.sh: error: ${2//[[:cntrl:]]/ }" >&2
    exit "$1"
}

case "${1:-}" in
-h | --help) usage && exit 0 ;;
--version) version && exit 0 ;;
"" | -*)
    usage
    soc=$(detect_soc)
    fail 2 "expected a SoC name first, found '${1:-nothing}'${soc:+; this host has $soc}"
    ;;
esac
soc_version=$1
[[ $soc_version == Ascend* ]] || fail 2 "expected a SoC name first, found '$soc_version'; is it Ascend$soc_version?"
shift

name=wav2vec2-base-960h
if (($#)) && [[ $1 != -* ]]; then
    name=$1
    shift
fi

gears=$(seq 10000 10000 560000)
most_gears=100 # CANN compiles no more
atc_options=()
while (($#)); do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --version) version && exit 0 ;;
    --gears_from | --gears_from=*)
        if [[ $1 == *=* ]]; then file=${1#*=}; else
            shift
            file=${1:-}
        fi
        if [[ $file == \~/* ]]; then file=$HOME/${file:2}; fi # the shell leaves the ~ of --gears_from=~/FILE
        [[ -f $file ]] || fail 2 "--gears_from: expected a file with one length per line, found no file '$file'"
        (($(wc -c <"$file") < 1000000)) ||
            fail 2 "--gears_from: expected a small file with one length per line, found a larger one '$file'"
        gears=$(tr -d '\r\0' <"$file")
        if wrong=$(grep -a -m 1 -vxE '[1-9][0-9]{0,7}' <<<"$gears"); then
            fail 2 "--gears_from: expected one whole number per line in $file, found '${wrong:0:40}'"
        fi
        gears=$(sort -nu <<<"$gears")
        (($(wc -l <<<"$gears") <= most_gears)) ||
            fail 2 "--gears_from: expected at most $most_gears lengths in $file; see python -m wav2vec2_eval.gears"
        ;;
    *) atc_options+=("$1") ;;
    esac
    shift
done

[[ $name != */* && $name != *.onnx ]] || fail 2 "expected a model's name without folder and suffix, found '$name'"
model=./models/$name
[[ -f $model.onnx ]] || fail 2 "$model.onnx: no such file; run export_onnx.py --model_save_dir=./models first"
source_cann || fail 2 "CANN's atc was found neither on PATH nor beside a set_env.sh; source CANN's set_env.sh first"
leave_out_current_folder # atc starts Python

# Every gear gives a length to each axis marked -1, in the order of --input_shape. atc wants no blank in the list.
inputs=(input)
if [[ $name == *-masked ]]; then inputs+=(attention_mask); fi
count=$(wc -l <<<"$gears")
length=-1
if ((count == 1)); then length=$gears; fi # atc compiles gears from two on, and a single length as a fixed shape
input_shape=$(printf ';%s' "${inputs[@]/%/:1,$length}")
if ((count > 1)); then
    if ((${#inputs[@]} == 2)); then gears=$(awk '{ print $1 "," $1 }' <<<"$gears"); fi
    atc_options=(--dynamic_dims="$(paste -sd ';' <<<"$gears")" ${atc_options[@]+"${atc_options[@]}"})
fi

started=$(mktemp ./models/.onnx2om.XXXXXX) # by the clock of the file system that the .om goes to
trap 'rm -f "$started"' EXIT
compiler=""
stop() { # signal; atc, which may run for an hour, ends with this script
    [[ -z $compiler ]] || kill -- "-$compiler" 2>/dev/null || true
    rm -f "$started"
    trap - "$1"
    kill -s "$1" $$
}
trap 'stop HUP' HUP
trap 'stop INT' INT
trap 'stop TERM' TERM
echo "compiling $model.onnx for $soc_version with $count gears"
if [[ " ${atc_options[*]-} " != *" --log="* ]]; then atc_options+=(--log=error); fi
# atc reports on stdout, its failures too, and ends with status 255. A shell that waits answers signals at once. With
# set -m atc and all that it starts are a process group.
set -m
atc --framework=5 --model="$model.onnx" --output="$model" --input_format=ND --input_shape="${input_shape#;}" \
    --soc_version="$soc_version" "${atc_options[@]}" &
compiler=$!
set +m
wait "$compiler" || fail 1 "atc failed with status $?; its report stands above (codes: docs/ascend.md)"
compiler=""

compiled=$model.om
if [[ $model.om2 -nt $started ]]; then compiled=$model.om2; fi # what atc --mode=7 writes
if [[ ! $compiled -nt $started ]]; then
    dynamic=$(find ./models -name "${name}_linux_*.om" -newer "$started" -print -quit)
    [[ -z $dynamic ]] || fail 1 "atc wrote $dynamic, a model of dynamic shape instead of gears; check the exported graph"
    fail 1 "atc ended well but wrote no $model.om; see its report above"
fi
echo "written: $compiled"
