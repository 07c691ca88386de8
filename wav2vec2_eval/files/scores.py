# SPDX-License-Identifier: Apache-2.0
"""The transcriptions, and the two files of scores beside them: `wer.txt` and `utterance_scores.tsv`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import SuiteError
from ..speech.wer import WordErrors, check_installed, total, word_errors
from . import run_folder
from .atomic import write_text
from .manifest import References, check_same_keys
from .names import (
    GEARS_NAME,
    INFER_TIME_NAME,
    JOURNAL_NAME,
    MANIFEST_NAME,
    RUN_NAME,
    SCORES_NAME,
    UTTERANCES_NAME,
    WER_NAME,
    result_key,
)
from .run_folder import Run

# What the suite calls its other files.
_RESERVED_NAMES = (
    WER_NAME,
    SCORES_NAME,
    JOURNAL_NAME,
    MANIFEST_NAME,
    UTTERANCES_NAME,
    INFER_TIME_NAME,
    RUN_NAME,
    GEARS_NAME,
)


def score_by_key(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, WordErrors]:
    """Key -> counts of the reference against the hypothesis of the same key.

    Raises SuiteError if the keys differ, or if there is no word to score.
    """
    check_same_keys(references, hypotheses, "scoring")
    scores = word_errors(list(references.values()), [hypotheses[key] for key in references])
    return dict(zip(references, scores))


def worst(scores: Mapping[str, WordErrors], count: int = 10) -> list[str]:
    """The keys of up to `count` utterances with errors: highest WER first, then most errors."""
    wrong = [key for key, score in scores.items() if score.errors]
    return sorted(wrong, key=lambda key: (scores[key].wer, scores[key].errors), reverse=True)[:count]


def format_wer(score: WordErrors) -> str:
    """The text of `wer.txt`."""
    return (
        f"WER: {score.wer}\nsubstitutions: {score.substitutions}\ndeletions: {score.deletions}\n"
        f"insertions: {score.insertions}\nerrors: {score.errors}\nwords: {score.words}\n"
    )


def check_output(transcriptions_path: Path, script: str, scored: Path | None = None) -> None:
    """Raise SuiteError unless the transcriptions and the files beside them may be written; check that jiwer is there.

    Allowed: a new folder, a folder of the same script, or the folder of the `scored` results. Only files recorded in
    run.json are overwritten.
    """
    check_installed()
    folder, name = transcriptions_path.parent, transcriptions_path.name
    if transcriptions_path.is_dir():
        raise SuiteError(f"{transcriptions_path}: expected the name of a file to write, found a folder")
    if name in _RESERVED_NAMES or result_key(name) is not None:
        raise SuiteError(
            f"{transcriptions_path}: the suite uses this name for another file; choose one like transcriptions.txt"
        )
    written = [name, WER_NAME, SCORES_NAME]
    if scored is None:
        written.append(INFER_TIME_NAME)
    if not (scored is not None and folder.exists() and folder.samefile(scored)):
        run_folder.check_not_owned_by_another(folder, script)
    run = run_folder.read_run(folder)
    recorded = run.transcriptions if run else None
    replaceable = {recorded, WER_NAME, SCORES_NAME, INFER_TIME_NAME} if recorded else set()
    for present in written:
        if present not in replaceable and (folder / present).exists():
            raise SuiteError(
                f"{folder / present}: {script} did not write this file, and would replace it; choose another folder"
            )


def write_scores(
    transcriptions_path: Path,
    references: References,
    hypotheses: Mapping[str, str],
    script: str,
    inference: Run | None = None,
) -> WordErrors:
    """Score, write the transcriptions with `wer.txt` and `utterance_scores.tsv` beside them, and print the result.

    run.json gets the name of the transcriptions. `inference` is given when infer_time.txt will be written afterwards:
    it replaces what run.json says. The files of an earlier run are removed. Nothing is written or removed unless every
    utterance has its hypothesis. `check_output` comes first.
    """
    scores = score_by_key({key: utterance.text for key, utterance in references.items()}, hypotheses)
    score = total(scores.values())

    folder, name = transcriptions_path.parent, transcriptions_path.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WER_NAME).unlink(missing_ok=True)  # written last: its presence means that the other files are whole
    if inference:
        (folder / INFER_TIME_NAME).unlink(missing_ok=True)
    earlier = run_folder.read_run(folder) or Run(script)
    if earlier.transcriptions not in (None, name):
        (folder / str(earlier.transcriptions)).unlink(missing_ok=True)
    run_folder.write_run(folder, replace(inference or earlier, transcriptions=name))
    write_text(transcriptions_path, "".join(f"{hypotheses[key]}\n" for key in references))
    write_text(folder / SCORES_NAME, _format_scores(references, hypotheses, scores))
    write_text(folder / WER_NAME, format_wer(score))

    print(f"{len(references)} utterances, {score.words} words")
    for key in worst(scores):
        print(f"  {references[key].utterance_id}: {scores[key].errors} errors in {scores[key].words} words")
        print(f"    reference:  {references[key].text}\n    hypothesis: {hypotheses[key]}")
    print(format_wer(score), end="")
    print(f"written: {transcriptions_path}, {folder / WER_NAME}, {folder / SCORES_NAME}")
    return score


def _format_scores(references: References, hypotheses: Mapping[str, str], scores: Mapping[str, WordErrors]) -> str:
    header = "key\tutterance_id\twer\tsubstitutions\tdeletions\tinsertions\twords\treference\thypothesis\n"
    return header + "".join(
        f"{key}\t{item.utterance_id}\t{scores[key].wer}\t{scores[key].substitutions}\t{scores[key].deletions}\t"
        f"{scores[key].insertions}\t{scores[key].words}\t{item.text}\t{hypotheses[key]}\n"
        for key, item in references.items()
    )
