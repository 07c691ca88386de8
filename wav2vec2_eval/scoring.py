# SPDX-License-Identifier: Apache-2.0
"""Word error rate with its counts, and the three files that report it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jiwer

from . import folders
from .errors import SuiteError
from .manifest import GEARS_NAME, MANIFEST_NAME, UTTERANCES_NAME, Utterance, check_same_keys
from .results import RESULTS_NAME, SCORES_NAME, TENSOR_NAME, WER_NAME
from .tensors import write_text
from .timing import INFER_TIME_NAME

# What the suite calls its other files.
RESERVED_NAMES = (
    *(WER_NAME, SCORES_NAME, RESULTS_NAME, MANIFEST_NAME, UTTERANCES_NAME, INFER_TIME_NAME),
    *(folders.RUN_NAME, GEARS_NAME),
)


class WordErrors(NamedTuple):
    """Word-level alignment counts of one utterance, or of many."""

    substitutions: int
    deletions: int
    insertions: int
    words: int  # in the reference

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors per reference word; infinite where words were heard in an empty reference."""
        if self.words:
            return self.errors / self.words
        return float("inf") if self.errors else 0.0


def word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, WordErrors]:
    """Align each reference with the hypothesis of the same key, by jiwer.

    Raises SuiteError if the keys differ, or if there is no word to score (jiwer would call that WER 0).
    """
    check_same_keys(references, hypotheses, "scoring")
    if not any(text.split() for text in references.values()):
        raise SuiteError(f"expected reference words to score, found none in {len(references)} utterances")
    alignments = jiwer.process_words(list(references.values()), [hypotheses[key] for key in references]).alignments
    return {key: _count(chunks) for key, chunks in zip(references, alignments, strict=True)}


def total(scores: Mapping[str, WordErrors]) -> WordErrors:
    """Sum the counts; WER over a set is all errors by all words, not a mean of rates."""
    return WordErrors(*map(sum, zip(*scores.values())))


def corpus_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """The counts of a corpus whose references and hypotheses stand in one order; otherwise like `word_errors`."""
    return total(
        word_errors(*({str(key): text for key, text in enumerate(texts)} for texts in (references, hypotheses)))
    )


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
    """Raise SuiteError unless the transcriptions and the files beside them may be written.

    They may go into a new folder, into one that `script` wrote into before, and beside the results that are `scored`.
    They replace those that the folder's run.json tells of, and no others.
    """
    folder, name = transcriptions_path.parent, transcriptions_path.name
    if transcriptions_path.is_dir():
        raise SuiteError(f"{transcriptions_path}: expected the name of a file to write, found a folder")
    if name in RESERVED_NAMES or TENSOR_NAME.fullmatch(name):
        raise SuiteError(
            f"{transcriptions_path}: this name has another meaning here; choose one like transcriptions.txt"
        )
    written = [name, WER_NAME, SCORES_NAME]
    if scored is None:
        written.append(INFER_TIME_NAME)
    if not (scored is not None and folder.exists() and folder.samefile(scored)):
        folders.check_not_owned_by_another(folder, script)
    recorded = (folders.read_run(folder) or {}).get("transcriptions")
    own = {recorded, WER_NAME, SCORES_NAME, INFER_TIME_NAME} if recorded else set()
    for present in written:
        if present not in own and (folder / present).exists():
            raise SuiteError(
                f"{folder / present}: {script} did not write this file, and would replace it; choose another folder"
            )


def report(
    transcriptions_path: Path,
    utterances: Mapping[str, Utterance],
    hypotheses: Mapping[str, str],
    script: str,
    conditions: Mapping[str, Any] | None = None,
) -> WordErrors:
    """Score, write the transcriptions with `wer.txt` and `utterance_scores.tsv` beside them, and print the result.

    `run.json` gets the name of the transcriptions, and the `conditions` of an inference whose times are still to come;
    what an earlier run left is removed. Nothing is written or removed unless every utterance has its hypothesis.
    `check_output` comes first.
    """
    scores = word_errors({key: utterance.text for key, utterance in utterances.items()}, hypotheses)
    score = total(scores)

    folder, name = transcriptions_path.parent, transcriptions_path.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WER_NAME).unlink(missing_ok=True)  # it comes last, and stands for the others
    if conditions:
        (folder / INFER_TIME_NAME).unlink(missing_ok=True)
    run = folders.read_run(folder) or {"script": script}
    if run.get("transcriptions", name) != name:
        (folder / run["transcriptions"]).unlink(missing_ok=True)
    folders.write_run(folder, **{**run, **(conditions or {}), "transcriptions": name})
    write_text(transcriptions_path, "".join(f"{hypotheses[key]}\n" for key in utterances))
    write_text(folder / SCORES_NAME, _format_scores(utterances, hypotheses, scores))
    write_text(folder / WER_NAME, format_wer(score))

    print(f"{len(utterances)} utterances, {score.words} words")
    for key in worst(scores):
        print(f"  {utterances[key].utterance_id}: {scores[key].errors} errors in {scores[key].words} words")
        print(f"    reference:  {utterances[key].text}\n    hypothesis: {hypotheses[key]}")
    print(format_wer(score), end="")
    print(f"written: {transcriptions_path}, {folder / WER_NAME}, {folder / SCORES_NAME}")
    return score


def _format_scores(
    utterances: Mapping[str, Utterance], hypotheses: Mapping[str, str], scores: Mapping[str, WordErrors]
) -> str:
    header = "key\tutterance_id\twer\tsubstitutions\tdeletions\tinsertions\twords\treference\thypothesis\n"
    return header + "".join(
        f"{key}\t{item.utterance_id}\t{scores[key].wer}\t{scores[key].substitutions}\t{scores[key].deletions}\t"
        f"{scores[key].insertions}\t{scores[key].words}\t{item.text}\t{hypotheses[key]}\n"
        for key, item in utterances.items()
    )


def _count(chunks: list[jiwer.AlignmentChunk]) -> WordErrors:
    counts = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        kind_of_insert = chunk.type == "insert"
        counts[chunk.type] += (
            chunk.hyp_end_idx - chunk.hyp_start_idx if kind_of_insert else chunk.ref_end_idx - chunk.ref_start_idx
        )
    words = counts["equal"] + counts["substitute"] + counts["delete"]
    return WordErrors(counts["substitute"], counts["delete"], counts["insert"], words)
