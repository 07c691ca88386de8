# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech as openslr.org packs it: a tree of FLAC files with transcripts beside them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from .audio_file import decode
from .base import Dataset, find_files

_UTTERANCE_ID = re.compile(r"(\d+)-(\d+)-(\d+)", re.ASCII)  # speaker, chapter, utterance


class LibriSpeechTree(Dataset):
    """`<speaker>/<chapter>/<id>.flac` with `<speaker>-<chapter>.trans.txt`, ordered by the three numbers of the id."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        files = find_files(folder, ".flac")
        paths = {path.stem: path for path in files}
        if not paths:
            raise SuiteError(f"{folder}: expected <speaker>/<chapter>/*.flac, found no audio; see --dataset_path")
        if len(paths) < len(files):
            twice = next(path for path in files if paths[path.stem] != path)
            raise SuiteError(f"{folder}: {twice.stem} is there twice ({twice} and {paths[twice.stem]}); remove one")
        texts = _read_transcripts(folder)
        for what, found, wanted in (("a transcript", texts, paths), ("an audio file", paths, texts)):
            missing = sorted(set(wanted) - set(found))
            if missing:
                raise SuiteError(
                    f"{folder}: {len(missing)} of {len(wanted)} utterances lack {what}, first {missing[0]}; "
                    f"complete the tree"
                )
        self.ids = sorted(paths, key=_numbers)[:limit]
        self.texts = [texts[utterance_id] for utterance_id in self.ids]
        self._paths = [paths[utterance_id] for utterance_id in self.ids]

    def waveform(self, index: int) -> np.ndarray:
        path = self._paths[index]
        return decode(path, str(path))


def _read_transcripts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in find_files(folder, ".trans.txt"):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise SuiteError(f"{path}: expected UTF-8 text, found other bytes; copy the file again") from None
        for line in filter(str.strip, lines):
            utterance_id, _, text = line.strip().partition(" ")
            if utterance_id in texts:
                raise SuiteError(f"{path}: a second transcript of {utterance_id}; remove one")
            _numbers(utterance_id)
            texts[utterance_id] = text
    return texts


def _numbers(utterance_id: str) -> tuple[int, ...]:
    match = _UTTERANCE_ID.fullmatch(utterance_id)
    if not match:
        raise SuiteError(
            f"{utterance_id}: expected an id <speaker>-<chapter>-<utterance> of numbers; rename audio and transcript"
        )
    return tuple(map(int, match.groups()))
