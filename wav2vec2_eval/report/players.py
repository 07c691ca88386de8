# SPDX-License-Identifier: Apache-2.0
"""The recordings of the worst utterances, to be played in the page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from ..errors import SuiteError
from ..files.run import Run
from ..sources.choose import open_dataset
from ..speech.audio import SAMPLE_RATE
from .page import MOST_PLAYERS

LONGEST_S = 60


def read_players(audio: str, run: Run, details: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Utterance id -> FLAC, for the worst utterances of all columns in turn, as many as a page may have.

    `audio` is what `--dataset_path` was. Raises SuiteError if it does not hold these utterances.
    """
    which = run.of_data.which_dataset
    if which is None:
        raise SuiteError("--audio: the results do not say of which data set they are; leave it out")
    wanted = _wanted(details)[:MOST_PLAYERS]
    dataset = open_dataset(which, audio, may_lack_files=True)
    places = {utterance_id: index for index, utterance_id in enumerate(dataset.ids) if utterance_id in set(wanted)}
    missing = next((each for each in wanted if each not in places), None)
    if missing is not None:
        raise SuiteError(f"--audio={audio}: expected the data set of the results, but utterance {missing} is not in it")
    return {utterance_id: encode(dataset.waveform(places[utterance_id])) for utterance_id in wanted}


def _wanted(details: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of the worst utterances, the very worst of each column first; without long recordings."""
    columns = [each.get("worst", ()) for each in details]
    in_turn = (item for row in zip_longest(*columns) for item in row if item is not None)
    return list(dict.fromkeys(item["id"] for item in in_turn if (item["seconds"] or 0) <= LONGEST_S))


def encode(waveform: np.ndarray) -> bytes:
    """A (T,) float32 waveform, 16 kHz mono, as FLAC of 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
