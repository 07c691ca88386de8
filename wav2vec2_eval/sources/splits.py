# SPDX-License-Identifier: Apache-2.0
"""The data sets that `--which_dataset` names, and where each is found. Standard library only: --help reads it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import SuiteError


class Split(NamedTuple):
    """Where a data set is found."""

    folder: str  # in a local tree
    hub_id: str = ""  # this field and the others are empty if the suite does not read the split from the hub
    hub_config: str = ""
    hub_split: str = ""


CUSTOM = "custom"  # a user's own recordings
# Any other name is that of a folder in a local tree.
SPLITS = {
    "validation": Split("dev-clean", "hf-internal-testing/librispeech_asr_dummy", "clean", "validation"),
    "clean": Split("test-clean", "openslr/librispeech_asr", "clean", "test"),
    "other": Split("test-other", "openslr/librispeech_asr", "other", "test"),
}

# A name becomes a part of folders' names, and must not climb out of a folder.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{,99}")


def parse_name(text: str) -> str:
    """Read the value of `--which_dataset`. Raises SuiteError unless it can name a split."""
    if not _NAME.fullmatch(text):
        raise SuiteError(
            f"expected {', '.join(SPLITS)}, {CUSTOM}, or a split's folder such as dev-other: at most 100 letters, "
            f"digits, '_', '-' and '.'; found {text!r:.100}"
        )
    return text


def find_split(name: str, dataset_path: str | None) -> Split:
    """Where the data set `name` is found. Raises SuiteError if the hub has no such set, and no folder is given."""
    if name in SPLITS:
        return SPLITS[name]
    if name == CUSTOM and dataset_path is None:
        raise SuiteError("--which_dataset=custom: expected a table or a folder of recordings as --dataset_path")
    if dataset_path is None:
        raise SuiteError(
            f"--which_dataset={name}: from the hub only {', '.join(SPLITS)} are read; for another split give a local "
            f"LibriSpeech tree by --dataset_path"
        )
    return Split(name)
