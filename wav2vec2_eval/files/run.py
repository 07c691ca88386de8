# SPDX-License-Identifier: Apache-2.0
"""`run.json`: which script wrote a folder, and under which conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import SuiteError
from .names import RUN_NAME, is_free
from .text import parse_json, read_text

FORMAT = 2  # of folders; 1 had no list of files, and its run.json names no format


@dataclass(frozen=True)
class Run:
    """The content of `run.json`. A field that is None is not written.

    preprocess.py writes the fields up to `checksum`. The two inference scripts write the other fields; their `data` is
    what is known of the utterances, in pyacl_infer.py the record of preprocess.py.
    """

    script: str | None = None  # always there, except in the `data` of the baseline, which preprocesses by itself
    format: int | None = None  # of the folder
    which_dataset: str | None = None
    dataset_path: str | None = None  # None: from the hub
    model: str | None = None  # as the user named it: the model of the feature extractor, or the one that was run
    padded: bool | None = None
    attention_mask: bool | None = None
    chunk_samples: int | None = None  # longer recordings are cut into chunks of this length
    stride_samples: int | None = None  # the overlap on either side of a chunk
    chunked: int | None = None  # how many recordings were cut; None: none
    skipped: int | None = None  # how many utterances were left out because they cannot be used; None: none
    utterances: int | None = None
    checksum: int | None = None  # CRC-32 of all tensors' CRC-32s
    model_sha256: str | None = None
    inputs_sha256: str | None = None
    engine: str | None = None
    device: str | None = None
    num_threads: int | None = None
    batch_size: int | None = None
    in_flight: int | None = None
    precision: str | None = None
    gears: int | None = None  # the number of gears of an NPU's model
    sync_infer: bool | None = None
    cpu_run: bool | None = None
    input_dtypes: str | None = None
    res_save_type: str | None = None
    warm_up: int | None = None
    data: Run | None = None
    transcriptions: str | None = None  # the file name that postprocess.py or the baseline wrote
    normalize_text: str | None = None  # the normaliser of the scores, if one was chosen
    scored: bool | None = None  # False: no utterance has a reference, so there is no wer.txt
    resumed: bool | None = None

    def __post_init__(self) -> None:
        if self.transcriptions is not None and not is_free(self.transcriptions):
            raise ValueError(f"{self.transcriptions!r} is no name for transcriptions")

    @property
    def of_data(self) -> Run:
        """What is known of the utterances: in a data folder this record, in a results folder its part."""
        return self.data or self

    @property
    def is_of_data(self) -> bool:
        """Whether this is the record of a data folder. (That of a results folder has such a field in its `data`.)"""
        return self.padded is not None

    def __str__(self) -> str:
        return json.dumps(_format(self), ensure_ascii=False)


_TYPES = {"str": str, "int": int, "bool": bool, "None": type(None), "Run": Run}


def _parse(value: object) -> object:
    """A JSON object as a Run, with unknown names left out; any other value as it is. Raises ValueError."""
    if not isinstance(value, Mapping):
        return value
    found = {}
    for field in fields(Run):
        item = _parse(value.get(field.name))
        if type(item) not in [_TYPES[name] for name in str(field.type).split(" | ")]:
            raise ValueError(field.name)
        found[field.name] = item
    return Run(**found)  # type: ignore[arg-type]  # each was compared with its field's type


def _format(run: Run) -> dict[str, object]:
    written = {name: value for name, value in vars(run).items() if value is not None}
    return {name: _format(value) if isinstance(value, Run) else value for name, value in written.items()}


def read_run(folder: Path) -> Run | None:
    """The folder's `run.json`, or None if there is none. Raises SuiteError if something else is in the file."""
    path = folder / RUN_NAME
    if not path.exists():
        return None
    text = read_text(path, "choose another folder")
    try:
        run = _parse(parse_json(text))
    except (ValueError, RecursionError):  # RecursionError: `data` in `data` without end
        run = None
    if not isinstance(run, Run) or run.script is None:
        raise SuiteError(
            f"{path}: expected the JSON that this suite writes, found something else; choose another folder"
        )
    if (run.format or 1) > FORMAT:
        raise SuiteError(f"{path}: written by a newer version (format {run.format}, this one knows {FORMAT}); update")
    return run


def format_run(run: Run) -> str:
    """The text of `run.json`."""
    return json.dumps({"script": run.script, "format": FORMAT, **_format(run)}, indent=2, ensure_ascii=False) + "\n"
