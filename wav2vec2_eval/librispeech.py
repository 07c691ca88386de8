# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech utterances, from a local tree or from the Hugging Face hub, behind one small interface.

Audio is decoded by soundfile alone, one utterance at a time.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import soundfile

from .audio import LONGEST, SAMPLE_RATE, padded_length
from .errors import SuiteError
from .model_folder import FeatureExtractor, hub_error, silence_hub


class Split(NamedTuple):
    """Where one of the suite's data sets is found."""

    hub_id: str
    hub_config: str
    hub_split: str
    folder: str  # in a local tree


SPLITS = {
    "validation": Split("hf-internal-testing/librispeech_asr_dummy", "clean", "validation", "dev-clean"),
    "clean": Split("openslr/librispeech_asr", "clean", "test", "test-clean"),
    "other": Split("openslr/librispeech_asr", "other", "test", "test-other"),
}

_UTTERANCE_ID = re.compile(r"(\d+)-(\d+)-(\d+)", re.ASCII)  # speaker, chapter, utterance


class Dataset(Protocol):
    """Utterances in a fixed order. Picklable, so that worker processes can read them too."""

    ids: Sequence[str]
    texts: Sequence[str]

    def waveform(self, index: int) -> np.ndarray:
        """Decode one utterance: (T,) float32 in [-1, 1), 16 kHz mono."""


def open_dataset(which: str, dataset_path: str | None = None, limit: int | None = None) -> Dataset:
    """Open `validation`, `clean` or `other`, cut to the first `limit` utterances.

    With `dataset_path` nothing is downloaded: it is a LibriSpeech tree, or a folder with the hub's parquet files.
    Raises SuiteError if the data are missing, empty or inconsistent.
    """
    split = SPLITS[which]
    if dataset_path is None:
        return HubDataset(split.hub_id, split, None, limit)
    root = Path(dataset_path)
    if not root.is_dir():
        raise SuiteError(f"{root}: expected a LibriSpeech folder, found none; see --dataset_path")
    for folder in (root / split.folder, root / "LibriSpeech" / split.folder):
        if folder.is_dir():
            return LibriSpeechTree(folder, limit)
    if files := local_files(root, split):
        return HubDataset(str(root), split, files, limit)
    raise SuiteError(
        f"{root}: expected a folder {split.folder}, or the hub's parquet files as in {split.hub_config}/"
        f"{split.hub_split}/0000.parquet, found neither; see --dataset_path"
    )


class LibriSpeechTree:
    """`<speaker>/<chapter>/<id>.flac` with `<speaker>-<chapter>.trans.txt`, ordered by the three numbers of the id."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        files = _find(folder, ".flac")
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
        return _decode(path, str(path))


class HubDataset:
    """A data set with the hub's columns audio, text and id, from local parquet `files` or those of hub id `name`."""

    def __init__(self, name: str, split: Split, files: Sequence[str] | None, limit: int | None = None) -> None:
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        import datasets

        try:
            data_files = {split.hub_split: list(files or hub_files(name, split))}
            table = datasets.load_dataset("parquet", data_files=data_files, split=split.hub_split)
        except Exception as error:  # the hub client raises its own, its HTTP library's and the system's errors
            if files:
                reason = " ".join(str(error).split())[:300]
                raise SuiteError(f"{name}: cannot be read as a copy of the hub's data set ({reason})") from None
            raise hub_error(f"{name} ({split.hub_config}, {split.hub_split})", error, "--dataset_path") from None
        missing = {"audio", "text", "id"} - set(table.column_names)
        if missing or not len(table):
            raise SuiteError(
                f"{name}: expected utterances with the columns audio, text and id, found {len(table)} with "
                f"{', '.join(table.column_names)}"
            )
        table = table.select(range(min(len(table), limit or len(table))))
        self.ids = [str(utterance_id) for utterance_id in table["id"]]
        self.texts = list(table["text"])
        # Without decode=False, datasets would decode through torchcodec and FFmpeg.
        self._table = table.cast_column("audio", datasets.Audio(decode=False))

    def waveform(self, index: int) -> np.ndarray:
        audio: dict[str, Any] = self._table[index]["audio"]
        source = io.BytesIO(audio["bytes"]) if audio["bytes"] is not None else Path(audio["path"])
        return _decode(source, self.ids[index])


def local_files(root: Path, split: Split) -> list[str]:
    """The split's parquet files in a copy of the hub's: <config>/<split>/*.parquet or <config>/<split>-*.parquet."""
    return [
        str(path)
        for path in _find(root, ".parquet")
        if split.hub_config in path.relative_to(root).parts[:-1]
        and (split.hub_split == path.parent.name or path.name.startswith(f"{split.hub_split}-"))
    ]


def hub_files(name: str, split: Split) -> Sequence[str]:
    """The addresses of the split's parquet files on the hub.

    Loaded by the name of the data set, every split would be fetched, and training's are a hundred times larger
    (github.com/huggingface/datasets/issues/7554).
    """
    import datasets

    silence_hub()
    return datasets.load_dataset_builder(name, split.hub_config).config.data_files[split.hub_split]


class ModelInput(NamedTuple):
    """One utterance, ready for the model."""

    num_samples: int  # before padding
    samples: np.ndarray  # (1, T) float32


def model_input(
    dataset: Dataset, index: int, extractor: FeatureExtractor, gears: Sequence[int] | None = None
) -> ModelInput:
    """Decode, normalise and pad utterance `index`. Raises SuiteError, naming it, if it is broken or fits no gear."""
    waveform = dataset.waveform(index)
    try:
        length = padded_length(len(waveform), gears)
    except SuiteError as error:
        raise SuiteError(f"{dataset.ids[index]}: {error}") from None
    return ModelInput(len(waveform), extractor(waveform, length))


def _find(folder: Path, suffix: str) -> list[Path]:
    """All files below `folder` whose names end in `suffix`, sorted. Links are followed: data sets are often linked."""
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(suffix)
    )


def _read_transcripts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in _find(folder, ".trans.txt"):
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


def _decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    """Read a whole 16 kHz mono file: (T,) float32. Raises SuiteError, naming `name`, for anything else."""
    try:
        with soundfile.SoundFile(source) as file:
            rate, channels, num_samples = file.samplerate, file.channels, file.frames
            if num_samples > LONGEST:  # a damaged header, or that of an encoder that did not know
                raise SuiteError(f"{name}: its header says {num_samples} samples, an hour has {LONGEST}; convert it")
            if (rate, channels) != (SAMPLE_RATE, 1):
                raise SuiteError(
                    f"{name}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz with {channels} channels; convert it"
                )
            waveform = file.read(dtype="float32")
    except soundfile.LibsndfileError as error:
        raise SuiteError(f"{name}: cannot be decoded ({error}); copy the file again") from None
    # libsndfile gives what it has of a file that was cut between two blocks.
    if len(waveform) != num_samples:
        raise SuiteError(f"{name}: expected {num_samples} samples, found {len(waveform)}; copy the file again")
    return waveform
