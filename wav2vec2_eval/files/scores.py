# SPDX-License-Identifier: Apache-2.0
"""The transcriptions, and the two files of scores beside them: `wer.txt` and `utterance_scores.tsv`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..errors import SuiteError
from ..speech.wer import WordErrors, check_installed, total, word_errors
from .folder import OutputFolder, output_folder
from .names import INFER_TIME_NAME, RUN_NAME, SCORES_NAME, WER_NAME, is_free, is_plain
from .run import Run, read_run
from .utterances import Utterance

_SCORED_TOGETHER = 500  # utterances; jiwer is faster with many, and memory stays flat
_HEADER = "key\tutterance_id\twer\tsubstitutions\tdeletions\tinsertions\twords\treference\thypothesis\n"


class Scored(NamedTuple):
    """An utterance, what was recognised, and the errors in it."""

    utterance: Utterance
    hypothesis: str
    errors: WordErrors


def score(pairs: Iterable[tuple[Utterance, str]]) -> Iterator[Scored]:
    """Score utterances with their transcripts, in order and without holding all of them."""
    waiting = iter(pairs)
    while chunk := list(islice(waiting, _SCORED_TOGETHER)):
        errors = word_errors([utterance.text or "" for utterance, _ in chunk], [text for _, text in chunk])
        yield from (Scored(utterance, text, each) for (utterance, text), each in zip(chunk, errors))


def format_wer(score: WordErrors) -> str:
    """The text of `wer.txt`."""
    return (
        f"WER: {score.wer}\nsubstitutions: {score.substitutions}\ndeletions: {score.deletions}\n"
        f"insertions: {score.insertions}\nerrors: {score.errors}\nwords: {score.words}\n"
    )


@contextmanager
def scores_folder(transcriptions_path: Path, script: str, scored: Path | None = None) -> Iterator[OutputFolder]:
    """Lock the folder of the transcriptions. Raises SuiteError unless they, and the files beside them, may be written.

    Allowed: a folder that is new, of the same script, or that of the `scored` results. Only files that the scripts
    wrote are replaced. Checks that jiwer is there.
    """
    check_installed()
    path, name = transcriptions_path.parent, transcriptions_path.name
    if transcriptions_path.is_dir() or not is_plain(name):
        raise SuiteError(f"{transcriptions_path}: expected the name of a file to write, found a folder")
    if not is_free(name):
        raise SuiteError(
            f"{transcriptions_path}: the suite uses this name for another file; choose one like transcriptions.txt"
        )
    with output_folder(path) as folder:
        if scored is None or not path.samefile(scored):
            folder.check_owner(script)
        times = () if scored is not None else (INFER_TIME_NAME,)
        folder.check_free(name, WER_NAME, SCORES_NAME, RUN_NAME, *times)
        yield folder


def write_scores(
    folder: OutputFolder,
    name: str,
    pairs: Iterable[tuple[Utterance, str]],
    script: str,
    inference: Run | None = None,
) -> WordErrors:
    """Score, write the transcriptions `name` with `wer.txt` and `utterance_scores.tsv` beside them, print the result.

    run.json gets the name of the transcriptions. `inference` replaces what run.json says; the caller may then write
    infer_time.txt. The files of an earlier run of `script` are removed, with its times; the results of another script,
    and their times, are kept. Nothing is replaced or removed before all utterances are scored.
    """
    count, sums, worst = 0, [0, 0, 0, 0], Worst()
    with folder.writing(name) as transcriptions, folder.writing(SCORES_NAME) as table:
        table.write(_HEADER.encode())
        for item in score(pairs):
            transcriptions.write(f"{item.hypothesis}\n".encode())
            table.write(_format_scored(item).encode())
            sums = [sum(each) for each in zip(sums, item.errors)]
            worst.add(item)
            count += 1
        errors = total([WordErrors(*sums)])
        # wer.txt is removed first and written last: its presence means that the other files are whole.
        earlier = read_run(folder.path) or Run(script)
        gone = {earlier.transcriptions} - {None, name}
        if earlier.script == script:
            gone |= {INFER_TIME_NAME} & set(folder.files() or ())
            inference = inference or Run(script)
        folder.remove(WER_NAME, *map(str, gone))
        folder.write_run(replace(inference or earlier, transcriptions=name))
    folder.write_text(WER_NAME, format_wer(errors))

    print(f"{count} utterances, {errors.words} words")
    for item in worst.items():
        print(f"  {item.utterance.utterance_id}: {item.errors.errors} errors in {item.errors.words} words")
        print(f"    reference:  {item.utterance.text}\n    hypothesis: {item.hypothesis}")
    print(format_wer(errors), end="")
    print(f"written: {folder.path / name}, {folder.path / WER_NAME}, {folder.path / SCORES_NAME}")
    return errors


class Worst:
    """Collects the up to `count` utterances with errors: highest WER first, then most errors, then the earlier one."""

    def __init__(self, count: int = 10) -> None:
        self._count = count
        self._seen = 0
        self._heap: list[tuple[float, int, int, Scored]] = []

    def add(self, item: Scored) -> None:
        self._seen += 1
        if item.errors.errors:
            heapq.heappush(self._heap, (item.errors.wer, item.errors.errors, -self._seen, item))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def items(self) -> list[Scored]:
        return [item for *_, item in sorted(self._heap, reverse=True)]


def _format_scored(item: Scored) -> str:
    utterance, hypothesis, errors = item
    return (
        f"{utterance.key}\t{utterance.utterance_id}\t{errors.wer}\t{errors.substitutions}\t{errors.deletions}\t"
        f"{errors.insertions}\t{errors.words}\t{utterance.text}\t{hypothesis}\n"
    )
