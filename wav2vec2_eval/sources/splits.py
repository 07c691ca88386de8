# SPDX-License-Identifier: Apache-2.0
"""The data sets that `--which_dataset` names, and where each is found. Standard library only: --help reads it."""

from __future__ import annotations

from typing import NamedTuple


class Split(NamedTuple):
    """Where one of the suite's data sets is found."""

    hub_id: str
    hub_config: str
    hub_split: str
    folder: str  # in a local tree


CUSTOM = "custom"  # a user's own recordings
SPLITS = {
    "validation": Split("hf-internal-testing/librispeech_asr_dummy", "clean", "validation", "dev-clean"),
    "clean": Split("openslr/librispeech_asr", "clean", "test", "test-clean"),
    "other": Split("openslr/librispeech_asr", "other", "test", "test-other"),
}
