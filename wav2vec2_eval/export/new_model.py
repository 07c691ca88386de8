# SPDX-License-Identifier: Apache-2.0
"""A new model file, with the file of its weights if it needs one: both appear whole and proven, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..engines.model_file import external_files, model_digest, read_metadata, seal
from ..errors import SuiteError
from ..files.locks import locked
from ..files.model_record import parse_record
from ..files.names import MODEL_RECORD_KEY, is_weights_of, weights_name
from ..machine.signals import signals_deferred
from ..machine.terminal import say


@contextmanager
def new_model(path: Path) -> Iterator[Path]:
    """Where to write a model: a file of the same name in a folder of its own, beside `path`.

    It replaces `path` if the block ends without an exception; external data move with it, and those of the model that
    it replaces are removed. Otherwise nothing is left. The folder of `path` is made if need be, and locked.
    """
    if path.is_dir():
        raise SuiteError(f"{path}: expected the name of a file to write, found a folder")
    if path.is_symlink():
        raise SuiteError(f"{path}: expected a file to replace, found a link; remove it, or choose another folder")
    with locked(path.parent) as token:
        work = path.parent / token
        work.mkdir()  # the lock removes it in the end, with what is left in it
        yield work / path.name
        _publish(work / path.name, path)


def weights_beside(path: Path) -> str:
    """The file for the weights of a model above 2 GB. Its name has a hash of what the model at `path` contains now.

    So the weights of two models never have one name, and `kill -9` between the two renames of a new model leaves the
    old one as it was.
    """
    return weights_name(path.stem, model_digest(path))


def _publish(new: Path, path: Path) -> None:
    """Move the model `new` with its weights to `path`. If a rename fails, the earlier model stays."""
    weights, earlier = external_files(new), _weights_of_ours(path)
    seal(new)
    if path.exists():
        say(f"replacing {_description(path)}")
    with signals_deferred():
        useless = weights - earlier
        try:
            for name in weights:  # first, so that a model never lacks its weights
                (new.parent / name).replace(path.parent / name)
            new.replace(path)
            useless = earlier - weights
        finally:
            for name in useless:
                (path.parent / name).unlink(missing_ok=True)


def _description(path: Path) -> str:
    """What the model that is there now was exported from, if that is known."""
    try:
        return f"the export of {parse_record(read_metadata(path)[MODEL_RECORD_KEY], str(path)).name} in {path}"
    except (SuiteError, KeyError):
        return f"the earlier file {path}"


def _weights_of_ours(path: Path) -> set[str]:
    """The weights of the model that is there now, if the suite wrote them."""
    with suppress(SuiteError, FileNotFoundError):  # whatever else is there has no weights of ours
        return {name for name in external_files(path) if is_weights_of(path.stem, name)}
    return set()
