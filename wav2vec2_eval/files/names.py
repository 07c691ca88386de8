# SPDX-License-Identifier: Apache-2.0
"""Every name that the suite gives to a file, and the names inside a model file. Standard library only.

docs/files.md describes these files for users; a test holds both lists equal.
"""

from __future__ import annotations

import re

# In every folder that a script writes.
RUN_NAME = "run.json"  # which script wrote the folder, under which conditions
LIST_NAME = "files.tsv"  # the files that the scripts wrote into the folder
LOCK_NAME = ".wav2vec2_eval.lock"

# The data folder of preprocess.py. The first three are copied into the results folder. How its tensors are laid out:
# "suite" puts all of them into the folder itself, "ais_bench" makes a sub-folder for each model input.
LAYOUTS = ("suite", "ais_bench")
MANIFEST_NAME = "bin_file.info"
UTTERANCES_NAME = "utterances.tsv"
MODEL_RECORD_NAME = "model.json"
GEARS_NAME = "padding_lens.txt"
SKIPPED_NAME = "skipped.tsv"  # utterances that were left out; copied into the results folder, too

# The results folder of pyacl_infer.py.
JOURNAL_NAME = "results.tsv"
INFER_TIME_NAME = "infer_time.txt"

# Beside the transcriptions of postprocess.py and pth_online_infer.py, whose own name the user chooses.
WER_NAME = "wer.txt"
SCORES_NAME = "utterance_scores.tsv"
JSON_LINES_NAME = "utterances.jsonl"
REFERENCE_TRN_NAME = "ref.trn"
HYPOTHESIS_TRN_NAME = "hyp.trn"
TRN_NAMES = (REFERENCE_TRN_NAME, HYPOTHESIS_TRN_NAME)
SCORE_NAMES = (WER_NAME, SCORES_NAME, JSON_LINES_NAME, *TRN_NAMES)
CTM_NAME = "words.ctm"
_CAPTIONS_SUFFIX = ".srt"  # after the key of the utterance

# The report.
SUMMARY_NAME = "summary.md"
SUMMARY_DATA_NAME = "summary.json"
PAGE_NAME = "report.html"

# The folder of models.
MASKED_SUFFIX = "-masked"
INT8_SUFFIX = "-int8"
CONVERSION_SUFFIX = "-openvino"  # folder of the model's conversion, beside the model
_NOT_AT_THE_END = (MASKED_SUFFIX, INT8_SUFFIX, CONVERSION_SUFFIX, ".onnx", ".om", ".om2")
_WEIGHTS = re.compile(r"-[0-9a-f]{16}\.data")  # after the model's name without its suffix

# Inside an exported model: the inputs in order (only a masked model has the second), the output, the
# metadata keys.
INPUT = "input"
ATTENTION_MASK = "attention_mask"
OUTPUT = "output"
INPUT_FOLDERS = (INPUT, ATTENTION_MASK)  # the sub-folders of the layout "ais_bench"
PRECISION_KEY = "precision"
MODEL_RECORD_KEY = "model_record"

_FIXED_NAMES = (
    *(RUN_NAME, LIST_NAME, LOCK_NAME, MANIFEST_NAME, UTTERANCES_NAME, MODEL_RECORD_NAME, GEARS_NAME, JOURNAL_NAME),
    SKIPPED_NAME,
    *(INFER_TIME_NAME, *SCORE_NAMES, CTM_NAME, SUMMARY_NAME, SUMMARY_DATA_NAME, PAGE_NAME),
)
_RESULT = re.compile(r"(?P<key>.+)\.\d+\.(?:bin|npy)")


def is_plain(name: str) -> bool:
    """Whether `name` names a file directly in a folder, on one line of a table."""
    return name not in ("", ".", "..") and "/" not in name and name.isprintable()


def is_recordable(name: str) -> bool:
    """Whether the list of a folder's files may hold `name`: a plain name, also inside a sub-folder of model inputs."""
    folder, separator, plain = name.rpartition("/")
    return is_plain(plain) and (folder in INPUT_FOLDERS or not separator)


def is_free(name: str) -> bool:
    """Whether the user may give this name to the transcriptions: no other file of the suite has it."""
    return is_plain(name) and name not in _FIXED_NAMES and result_key(name) is None and not is_word_times(name)


def chunk_key(key: str, number: int | None) -> str:
    """The key of a chunk of utterance `key`; of the utterance itself if `number` is None."""
    return key if number is None else f"{key}-{number}"


def tensor_names(key: str, layout: str = LAYOUTS[0]) -> list[str]:
    """The tensor files of an utterance in the data folder: the waveform's, then the attention mask's."""
    if layout == "ais_bench":
        return [f"{folder}/{key}.npy" for folder in INPUT_FOLDERS]
    return [f"{key}.bin", f"{key}.mask.bin"]


def tensor_name(path: str) -> str:
    """The name that a tensor has in its data folder: `0.bin`, or `input/0.npy` of a sub-folder of model inputs."""
    name = "/".join(path.rsplit("/", 2)[-2:])
    return name if name.endswith(".npy") and is_recordable(name) else name.rpartition("/")[2]


def result_name(key: str, output: int, res_save_type: str) -> str:
    """The file of output `output` of utterance `key`; `res_save_type` is `bin` or `npy`."""
    return f"{key}.{output}.{res_save_type}"


def result_key(name: str) -> str | None:
    """The utterance whose result has this file name; None for any other name."""
    match = _RESULT.fullmatch(name)
    return match["key"] if match else None


def captions_name(key: str) -> str:
    """The file of the captions of utterance `key`."""
    return f"{key}{_CAPTIONS_SUFFIX}"


def is_word_times(name: str) -> bool:
    """Whether a file of this name, if a script wrote it, says when words were said: `words.ctm`, or captions."""
    return name == CTM_NAME or name.endswith(_CAPTIONS_SUFFIX)


def weights_name(model: str, digest: str) -> str:
    """The file for the weights of a model above 2 GB; `model` is the model's name without its suffix."""
    return f"{model}-{digest[:16]}.data"


def is_weights_of(model: str, name: str) -> bool:
    """Whether a file name is one that `weights_name` gives."""
    return name.startswith(model) and _WEIGHTS.fullmatch(name[len(model) :]) is not None


def is_base_name(name: str) -> bool:
    """Whether `model_name` makes file names of it that say which model is masked, and which is int8."""
    return is_plain(name) and not name.startswith(("-", ".")) and not name.endswith(_NOT_AT_THE_END)


def model_name(base: str, *, attention_mask: bool = False, int8: bool = False) -> str:
    """The file name of an exported model, such as `wav2vec2-base-960h-masked-int8.onnx`."""
    return f"{base}{MASKED_SUFFIX if attention_mask else ''}{INT8_SUFFIX if int8 else ''}.onnx"
