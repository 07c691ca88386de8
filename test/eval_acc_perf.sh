#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole evaluation, from audio to one table: accuracy and speed of the suite beside PyTorch.
# On an Ascend host the model runs on the NPU, elsewhere on the CPU. All files are written below the current folder.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=test/environment.sh
source "$root/test/environment.sh"
# shellcheck source=wav2vec2_eval/ascend_env.sh
source "$root/wav2vec2_eval/ascend_env.sh"

usage() {
    cat <<'TEXT'
Usage: bash test/eval_acc_perf.sh [OPTION ...]

  --demo                      the small corpus and model of test/demo, below ./demo_res; needs no hub and no data
  --which_dataset=NAME        validation, clean (default) or other
  --dataset_path=FOLDER       a local LibriSpeech tree, read instead of the hub
  --model_name_or_path=MODEL  hub id or local folder, default facebook/wav2vec2-base-960h
  --limit=N                   only the first N utterances
  --gears=GEARS               padding as in preprocess.py; default: 'default' on an NPU, 'none' on a CPU
  --attention_mask            the padding-exact model, with a second input; pads to gears on a CPU, too
  --engine=NAME               CPU: onnxruntime, openvino or auto (default: onnxruntime for f32, else openvino)
  --precision=NAME            CPU: f32 (default), bf16 or int8; the last two want OpenVINO
  --calibration=FILE          the manifest that calibrates int8; default: the evaluated set's own
  --soc_version=SOC           the NPU, for example Ascend310P3; default: what npu-smi shows
  --device_id=N               which NPU, default 0
  --skip_baseline             leave PyTorch out
  --max_wer=X                 fail if the WER is above X, for example 0.04

Each option may also be given as two words, --limit 5. PYTHON names the Python to use, default python3.
TEXT
}

fail() { # message
    echo "eval_acc_perf.sh: error: $1" >&2
    exit 2
}

which_dataset=clean
device_id=0
engine=auto
precision=f32
calibration=''
demo=''
gears='' soc_version='' max_wer='' skip_baseline='' attention_mask=()
dataset=() model=() limit=()
while (($#)); do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --demo) demo=yes ;;
    --skip_baseline) skip_baseline=yes ;;
    --attention_mask) attention_mask=(--attention_mask) ;;
    --which_dataset* | --dataset_path* | --model_name_or_path* | --limit* | --gears* | --soc_version* | --device_id* | \
        --max_wer* | --engine* | --precision* | --calibration*)
        option=${1%%=*}
        if [[ $1 == *=* ]]; then value=${1#*=}; else
            (($# > 1)) || fail "$option: expected a value after it"
            shift
            value=$1
        fi
        case $option in
        --which_dataset) which_dataset=$value ;;
        --dataset_path) dataset=("--dataset_path=$value") ;;
        --model_name_or_path) model=("--model_name_or_path=$value") ;;
        --limit) limit=("--limit=$value") ;;
        --gears) gears=$value ;;
        --soc_version) soc_version=$value ;;
        --device_id) device_id=$value ;;
        --max_wer) max_wer=$value ;;
        --engine) engine=$value ;;
        --precision) precision=$value ;;
        --calibration) calibration=$value ;;
        *) fail "unknown option $option (see --help)" ;;
        esac
        ;;
    *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done
[[ $which_dataset =~ ^(validation|clean|other)$ ]] ||
    fail "--which_dataset: expected validation, clean or other, found '$which_dataset'"
[[ -z $max_wer || $max_wer =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--max_wer: expected a number like 0.04, found '$max_wer'"

[[ $engine =~ ^(auto|onnxruntime|openvino)$ ]] ||
    fail "--engine: expected auto, onnxruntime or openvino, found '$engine'"
[[ $precision =~ ^(f32|bf16|int8)$ ]] || fail "--precision: expected f32, bf16 or int8, found '$precision'"
[[ $engine != onnxruntime || $precision != bf16 ]] || fail "--precision=bf16: onnxruntime has none; use --engine=openvino"
[[ -z $calibration || $precision == int8 ]] || fail "--calibration: only --precision=int8 is calibrated"
[[ -z $calibration || -f $calibration ]] || fail "--calibration=$calibration: no such file"

if [[ -f $gears ]]; then gears=$(realpath -- "$gears"); fi
if [[ -n $calibration ]]; then calibration=$(realpath -- "$calibration"); fi

if [[ -n $demo ]]; then
    ((${#dataset[@]} + ${#model[@]} == 0)) || fail "--demo has a data set and a model of its own; give no other"
    dataset=("--dataset_path=$root/test/demo/LibriSpeech")
    model=("--model_name_or_path=$root/test/demo/model")
    mkdir -p demo_res # apart from results on real data
    cd demo_res
fi

number=0
stage() { # title
    number=$((number + 1))
    echo
    echo "[$number] $1"
}
run() { # script, arguments …
    local script=$1
    shift
    "$python" "$root/$script" "$@"
}

stage "environment"
requirements=requirements.txt
if [[ $engine == openvino || $precision != f32 ]]; then requirements="requirements-openvino.txt"; fi
python=$(python_with "$root/$requirements")
echo "Python: $python"
on_npu='' lacking='' wanted_soc=$soc_version
if ! source_cann; then
    lacking="CANN's atc was not found"
elif [[ -z ${soc_version:=$(detect_soc)} ]]; then
    lacking="npu-smi shows none"
elif ! lacking=$("$python" -c 'import acl' 2>&1); then
    lacking="Python's acl: ${lacking##*$'\n'}" # the last line of the traceback
else
    on_npu=yes
fi
if [[ -n $on_npu ]]; then
    echo "NPU: $soc_version, device $device_id"
else
    [[ -z $wanted_soc ]] || fail "--soc_version=$wanted_soc: no NPU can be used here ($lacking)"
    echo "no NPU can be used here ($lacking): the model runs on this host's CPU"
fi
[[ -z $on_npu || "$engine $precision" == "auto f32" ]] ||
    fail "--engine and --precision are the CPU's, but the model runs on the NPU; see onnx2om.sh for its precision"
name=wav2vec2-base-960h input_dtypes=float32
if ((${#attention_mask[@]})); then name+=-masked input_dtypes+=,float32; fi
if [[ -z $gears ]]; then
    gears=none
    if [[ -n $on_npu ]] || ((${#attention_mask[@]})); then gears=default; fi
fi

# The set's name is part of every folder's, so that the sets' results stay side by side.
pre_data=./pre_data/$which_dataset
results=./om_infer_res_$which_dataset
baseline=./pth_online_infer_res/$which_dataset
selection=("--which_dataset=$which_dataset" ${dataset[@]+"${dataset[@]}"} ${model[@]+"${model[@]}"} ${limit[@]+"${limit[@]}"})

stage "preprocess"
run preprocess.py --pre_data_save_path="$pre_data" --gears="$gears" "${selection[@]}" \
    ${attention_mask[@]+"${attention_mask[@]}"}

stage "export to ONNX"
quantize=()
if [[ $precision == int8 ]]; then
    [[ -n $calibration ]] || echo "int8 is calibrated on a part of the evaluated set itself; see --calibration"
    quantize=(--quantize=int8 "--calibration=${calibration:-$pre_data/bin_file.info}")
    name+=-int8
fi
run export_onnx.py --model_save_dir=./models ${model[@]+"${model[@]}"} ${attention_mask[@]+"${attention_mask[@]}"} \
    ${quantize[@]+"${quantize[@]}"}
model_path=./models/$name.onnx

if [[ -n $on_npu ]]; then
    stage "compile for $soc_version"
    bash "$root/onnx2om.sh" "$soc_version" "$name" --gears_from="$pre_data/padding_lens.txt"
    model_path=./models/$name.om
fi

stage "infer"
# The first inference is left out of the averages, here and in the baseline; a single one cannot be.
warm_up=$(($(wc -l <"$pre_data/utterances.tsv") > 1))
run pyacl_infer.py --model_path="$model_path" --device_id="$device_id" --input_dtypes="$input_dtypes" \
    --engine="$engine" --precision="$precision" --workspace="$warm_up" \
    --input_info_file_path="$pre_data/bin_file.info" --infer_res_save_path="$results"

stage "decode and score"
run postprocess.py --bin_file_path="$results" --res_save_path="$results/transcriptions.txt" "${selection[@]}"

report=("--suite=$results" "--output=./eval_res/$which_dataset")
if [[ -z $skip_baseline ]]; then
    stage "PyTorch baseline"
    run pth_online_infer.py --workspace="$warm_up" --pred_res_save_path="$baseline/transcriptions.txt" "${selection[@]}"
    report+=("--baseline=$baseline")
fi

stage "result"
if [[ -n $on_npu ]]; then report+=("--soc_version=$soc_version"); fi
if [[ -n $max_wer ]]; then report+=("--max_wer=$max_wer"); fi
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" "$python" -m wav2vec2_eval.report "${report[@]}"

if [[ -n $demo ]]; then
    echo
    echo "Synthetic speech and a small model: the figures show that the suite works, not how well wav2vec2 does."
    echo "All files are in $PWD. Some of the utterances, reference / hypothesis:"
    awk -F '\t' 'NR % 10 == 3 && ++shown <= 5 { print "  " $8 " / " $9 }' "$results/utterance_scores.tsv"
fi
