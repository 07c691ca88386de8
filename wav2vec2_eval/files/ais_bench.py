# SPDX-License-Identifier: Apache-2.0
"""Huawei's benchmark tool ais_bench: the command that runs it on preprocessed data, and the results that it leaves.

A run writes output i of utterance k as `<k>_<i>.bin`, `.npy` or `.txt` into a folder of its own, and its times into
`<folder>_summary.json` beside that folder. With several devices, each has such a folder inside that of the run:
`device0`, or `device0_0`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np

from .. import MODEL_NAME
from ..errors import SuiteError
from ..speech.latency import Latency
from . import manifest
from .manifest import Manifest
from .names import INPUT_FOLDERS, JOURNAL_NAME, MANIFEST_NAME, model_name, result_key
from .parts import Parts
from .results import Logits, parse_foreign
from .text import parse_json, read_bytes, read_text
from .utterances import References

ENGINE = "ais_bench (its times leave out copies)"  # in run.json, and so in the report

_RESULT = re.compile(r"(?P<key>.+)_(?P<output>\d{1,9})\.(?P<type>bin|npy|txt)", re.ASCII)
_DEEPEST = 2  # below the given folder: runs, and their devices
_SHORTEST_MS, _LONGEST_MS = 1e-3, 1e9  # of an execution: less than a microsecond or 12 days are a mistake
_LARGEST = 1 << 30  # bytes of a file
_AGAIN = "run ais_bench again"

Files = Mapping[str, Path]  # key -> file of output 0, the logits


def commands(data: str, lengths: Collection[int], attention_mask: bool) -> str:
    """The commands that run ais_bench on a data folder, and score its results.

    `data` is the folder as the user wrote it, `lengths` are the padded lengths in samples.
    """
    folder = data.rstrip("/") or "/"
    inputs = INPUT_FOLDERS if attention_mask else INPUT_FOLDERS[:1]
    model = Path(model_name(MODEL_NAME, attention_mask=attention_mask)).with_suffix(".om")
    if len(lengths) > 1:
        shapes, note = ["--auto_set_dymdims_mode", "1"], ""
    else:
        note = ", without --dymDims if the .om was compiled for this length alone"
        shapes = ["--dymDims", ";".join(f"{name}:1,{length}" for name in inputs for length in lengths)]
    name = Path(folder).resolve().name or "data"
    run = ["python3", "-m", "ais_bench", "--model", f"./models/{model}"]
    run += ["--input", ",".join(f"{folder}/{each}" for each in inputs), *shapes, "--outfmt", "BIN"]
    run += ["--output", "./ais_bench_res", "--output_dirname", name]
    results = f"./ais_bench_res/{name}"
    score = ["python", "postprocess.py", f"--bin_file_path={results}"]
    score += [f"--input_info_file_path={folder}/{MANIFEST_NAME}", f"--res_save_path={results}/transcriptions.txt"]
    return f"to run ais_bench{note}:\n    {shlex.join(run)}\nto score its results:\n    {shlex.join(score)}\n"


def find(folder: Path) -> Files | None:
    """The results of ais_bench in a folder and below it; None if there are none, or if the folder holds our results.

    Raises SuiteError if results of both tools are in one folder, if an utterance has two results, or if the results are
    text.
    """
    if (folder / JOURNAL_NAME).exists():
        return None
    found: dict[str, Path] = {}
    text = None
    for place, names in _folders(folder):
        ours = next(filter(result_key, names), None)
        matches = [match for match in map(_RESULT.fullmatch, names) if match and match["output"] == "0"]
        if ours is not None and place == folder and all(match["type"] == "txt" for match in matches):
            return None
        for match in matches:
            path = place / match[0]
            if match["type"] == "txt":
                text = text or path
                continue
            if ours is not None:
                raise SuiteError(
                    f"{place}: holds results of ais_bench ({match[0]}) and of pyacl_infer.py ({ours}); remove the "
                    f"wrong ones"
                )
            if (other := found.setdefault(match["key"], path)) != path:
                raise SuiteError(
                    f"{folder}: expected one result of utterance {match['key']}, found {other.relative_to(folder)} and "
                    f"{path.relative_to(folder)}; remove the wrong one (several devices need --divide-input)"
                )
    if not found and text is not None and _summary_path(text.parent).exists():
        raise SuiteError(f"{text}: expected logits as .bin or .npy; run ais_bench again with --outfmt BIN or NPY")
    return found or None


def _folders(folder: Path, depth: int = 0) -> Iterator[tuple[Path, list[str]]]:
    """The folder with the names of its files, then the folders in it. A link to nothing is none of both."""
    inside: list[str] = []
    names: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        with suppress(OSError):  # of a link that leads in a circle
            if entry.is_dir():
                inside.append(entry.name)
            elif entry.is_file():
                names.append(entry.name)
    yield folder, names
    if depth < _DEEPEST:
        for name in inside:
            yield from _folders(folder / name, depth + 1)


class AisBenchResults(Logits):
    """Results of ais_bench, to be scored."""

    def __init__(
        self, folder: Path, files: Files, references: References, num_symbols: int, inputs: Manifest | None
    ) -> None:
        """`files` is what `find` found. Raises SuiteError unless these are the utterances of `references`."""
        parts = Parts(None) if inputs is None else inputs.parts
        manifest.check_same_keys(parts.keys(references), files, f"{folder}: results of ais_bench")
        super().__init__(folder, references, num_symbols, inputs, parts)
        self._files = files

    def _read(self, key: str) -> np.ndarray:
        path = self._files[key]
        _check_size(path, _AGAIN)
        return parse_foreign(path, read_bytes(path, _AGAIN), self._num_symbols, _AGAIN)


def read_times(files: Files) -> tuple[list[Latency], str]:
    """The times of the executions that made these results; none, and the reason, if a run has left no times.

    The order is that of the runs. Raises SuiteError if a summary is damaged, or if it is of other utterances.
    """
    keys: dict[Path, list[str]] = {}
    for key, path in files.items():
        keys.setdefault(path.parent, []).append(key)
    summaries = {_summary_path(folder): each for folder, each in keys.items()}
    missing = next((path for path in summaries if not path.exists()), None)
    if missing is not None:
        return [], f"{missing}: no such file"
    times = chain.from_iterable(_read_summary(path, each) for path, each in summaries.items())
    return [Latency(time_ms, None) for time_ms in times], ""


def _check_size(path: Path, advice: str) -> None:
    """Raise SuiteError for a file that would fill the memory. What is missing is reported when it is read."""
    with suppress(OSError):
        if path.stat().st_size > _LARGEST:
            raise SuiteError(f"{path}: expected a file of at most 1 GiB, found a larger one; {advice}")


def _summary_path(folder: Path) -> Path:
    folder = folder.resolve()  # it may be a link, or the current folder
    return folder.with_name(f"{folder.name}_summary.json")


def _read_summary(path: Path, keys: Sequence[str]) -> list[float]:
    """The times in milliseconds of a run that made results of these utterances."""
    advice = f"{_AGAIN} into a new folder, or move the file away to score without times"
    _check_size(path, advice)
    try:
        content = parse_json(read_text(path, advice))
        if not isinstance(content, dict):
            raise ValueError("no object")
        times, executions = content["npu_compute_time_list"], content["filesinfo"]
        names = [Path(name).name for each in executions.values() for name in each["outfiles"]]
        if type(times) is not list or not all(type(time_ms) in (int, float) for time_ms in times):
            raise ValueError("npu_compute_time_list is no list of numbers")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SuiteError(f"{path}: expected a summary of ais_bench, found something else ({error}); {advice}") from None
    executed = {match["key"] for match in map(_RESULT.fullmatch, names) if match}
    if not len(times) == len(executions) == len(executed):
        raise SuiteError(
            f"{path}: expected one time and one execution for each utterance, found {len(times)} times and "
            f"{len(executions)} executions of {len(executed)} utterances; run ais_bench without --loop and --pipeline, "
            f"or move the file away to score without times"
        )
    if executed != set(keys):
        example = min(executed ^ set(keys))
        raise SuiteError(f"{path}: not of the results beside it: utterance {example} is in one of them alone; {advice}")
    wrong = next((time_ms for time_ms in times if not _SHORTEST_MS <= time_ms < _LONGEST_MS), None)
    if wrong is not None:
        raise SuiteError(f"{path}: expected times in milliseconds, found {wrong}; {advice}")
    return times
