# SPDX-License-Identifier: Apache-2.0
"""Output folders: a script may replace what it wrote before, and nothing else.

The first file that a script writes into its folder is `run.json`: which script owns the folder, and the conditions of
the run. A folder without it must be empty; a folder with it must hold only files of the owner's kinds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import SuiteError
from ..machine.signals import signals_deferred
from .atomic import write_text
from .names import RUN_NAME, TEMPORARY_SUFFIX


@dataclass(frozen=True)
class Run:
    """The content of `run.json`. A field that is None is not written.

    preprocess.py writes the fields up to `checksum`. The two inference scripts write the other fields; their `data` is
    what is known of the utterances, in pyacl_infer.py the record of preprocess.py.
    """

    script: str | None = None  # always there, except in the `data` of the baseline, which preprocesses by itself
    which_dataset: str | None = None
    dataset_path: str | None = None  # None: from the hub
    model: str | None = None  # as the user named it: the model of the feature extractor, or the one that was run
    padded: bool | None = None
    attention_mask: bool | None = None
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
    resumed: bool | None = None

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
    run = None
    try:
        run = _parse(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        pass
    if not isinstance(run, Run) or run.script is None:
        raise SuiteError(
            f"{path}: expected the JSON that this suite writes, found something else; choose another folder"
        )
    return run


def write_run(folder: Path, run: Run) -> None:
    """Write the folder's `run.json`."""
    write_text(folder / RUN_NAME, json.dumps(_format(run), indent=2, ensure_ascii=False) + "\n")


def check_not_owned_by_another(folder: Path, script: str) -> None:
    """Raise SuiteError if `folder` holds another script's run."""
    run = read_run(folder)
    if run is not None and run.script != script:
        raise SuiteError(f"{folder}: holds files of {run.script}; choose another folder for {script}")


def check_replaceable(folder: Path, script: str, is_replaceable: Callable[[str], bool]) -> None:
    """Raise SuiteError unless `script` may write into `folder`, replacing what is there.

    Allowed: a folder that does not exist or is empty, and a folder with the script's `run.json` and only files whose
    names are replaceable. A temporary file that a killed run left counts as the file it was meant to become.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SuiteError(f"{folder}: expected a folder, found a file; choose another path")
    check_not_owned_by_another(folder, script)
    owned = read_run(folder) is not None
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(TEMPORARY_SUFFIX)
        if name == RUN_NAME or (owned and is_replaceable(name)):
            continue
        raise SuiteError(f"{folder}: holds files that {script} did not write ({path.name}); choose another folder")


@contextmanager
def staging(folder: Path, script: str, name: str) -> Iterator[Path]:
    """A fresh folder `name` inside `folder`, which is marked as `script`'s. On leaving it is removed with its content.

    New files are prepared there, so a failure leaves the earlier content of `folder` as it was.
    """
    existed = read_run(folder) is not None
    if not existed:
        write_run(folder, Run(script))
    path = folder / name
    _remove(path)  # a killed run's
    path.mkdir()
    try:
        yield path
    finally:
        with signals_deferred():
            _remove(path)
            if not existed and {child.name for child in folder.iterdir()} == {RUN_NAME}:
                (folder / RUN_NAME).unlink()


def _remove(folder: Path) -> None:
    """Remove a folder of ours that holds files only."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
