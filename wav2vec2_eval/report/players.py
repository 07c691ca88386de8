# SPDX-License-Identifier: Apache-2.0
"""The recordings of the worst utterances, to be played in the page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import islice, zip_longest
from typing import Any

import numpy as np

from ..errors import SuiteError
from ..files.run import Run
from ..sources.choose import open_dataset
from ..sources.recording_table import USUAL_COLUMNS, Columns
from ..speech.audio import SAMPLE_RATE
from .page import MOST_PLAYERS

LONGEST_S = 60


def read_players(
    audio: str, run: Run, details: Iterable[Mapping[str, Any]], columns: Columns = USUAL_COLUMNS
) -> dict[str, bytes]:
    """Utterance id -> FLAC, for the worst utterances of all columns in turn, as many as a page may have.

    `audio` is what `--dataset_path` was, with the `columns` of a custom table. Raises SuiteError if it does not hold
    these utterances, or others under their ids.
    """
    which = run.of_data.which_dataset
    if which is None:
        raise SuiteError("--audio: the results do not say of which data set they are; leave it out")
    wanted = dict(islice(_wanted(details).items(), MOST_PLAYERS))
    dataset = open_dataset(which, audio, columns=columns, may_lack_files=True)
    places = {utterance_id: index for index, utterance_id in enumerate(dataset.ids) if utterance_id in wanted}
    missing = next((each for each in wanted if each not in places), None)
    if missing is not None:
        raise SuiteError(f"--audio={audio}: expected the data set of the results, but utterance {missing} is not in it")
    players = {}
    for utterance_id, seconds in wanted.items():
        waveform = dataset.waveform(places[utterance_id])
        if len(waveform) != round(seconds * SAMPLE_RATE):
            raise SuiteError(
                f"--audio={audio}: expected {seconds:g} s of speech in utterance {utterance_id}, as the results say, "
                f"found {len(waveform) / SAMPLE_RATE:g} s; give the recordings that were inferred"
            )
        players[utterance_id] = encode(waveform)
    return players


def _wanted(details: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The lengths, by their ids, of the worst utterances, the very worst of each column first; without long ones."""
    columns = [each.get("worst", ()) for each in details]
    in_turn = (item for row in zip_longest(*columns) for item in row if item is not None)
    lengths = ((item["id"], item["seconds"]) for item in in_turn)
    return {name: seconds for name, seconds in lengths if seconds is not None and seconds <= LONGEST_S}


def encode(waveform: np.ndarray) -> bytes:
    """A (T,) float32 waveform, 16 kHz mono, as FLAC of 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
