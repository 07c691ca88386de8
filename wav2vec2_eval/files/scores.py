# SPDX-License-Identifier: Apache-2.0
"""The transcriptions, and the files of scores beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import SuiteError
from ..machine.terminal import say
from ..speech import normalization, wer
from ..speech.ctc import Symbols
from ..speech.explanation import Explanation
from ..speech.latency import format_figures
from ..speech.normalization import NONE
from ..speech.readable import format_percent, format_score
from ..speech.totals import HIGH, LOW, Totals
from ..speech.wer import WordErrors, Worst
from .folder import OutputFolder, output_folder
from .names import (
    CTM_NAME,
    INFER_TIME_NAME,
    JSON_LINES_NAME,
    RUN_NAME,
    SCORE_NAMES,
    SCORES_NAME,
    SKIPPED_NAME,
    TRN_NAMES,
    WER_NAME,
    captions_name,
    is_free,
    is_plain,
)
from .replaced import say_replaced
from .run import Run, read_run
from .scored import Scored, Transcript, format_header, format_json, format_row, score
from .trn import UtteranceIds, format_trn
from .word_times import remove_word_times, writing_word_times

_LONGEST_SHOWN = 500  # characters of a text


class Outcome(NamedTuple):
    """The result of scoring: `words` is None if no utterance has a reference, and `figures` then has nothing."""

    utterances: int
    words: WordErrors | None
    figures: Mapping[str, float]  # those of wer.txt after the word errors

    def __str__(self) -> str:
        """The line for a terminal."""
        if self.words is None:
            return f"{self.utterances} utterances transcribed, none scored"
        return format_score(self.words, self.figures.get(LOW), self.figures.get(HIGH))


def format_wer(score: WordErrors, more: Mapping[str, float] | None = None) -> str:
    """The text of `wer.txt`: one `label: number` per line, those in `more` at the end."""
    first = {
        "WER": score.wer,
        "substitutions": score.substitutions,
        "deletions": score.deletions,
        "insertions": score.insertions,
        "errors": score.errors,
        "words": score.words,
    }
    return format_figures({**first, **(more or {})})


@contextmanager
def scores_folder(
    transcriptions_path: Path,
    script: str,
    scored: Path | None = None,
    normalize_text: str = NONE,
    others: Sequence[str] = (),
) -> Iterator[OutputFolder]:
    """Lock the folder of the transcriptions. Raises SuiteError unless they, and the files beside them, may be written.

    Allowed: a folder that is new, of the same script, or that of the `scored` results. Only files that the scripts
    wrote are replaced. `others`: more names that will be written. Checks that the packages that score are there.
    """
    wer.check_installed()
    normalization.check_installed(normalize_text)
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
        folder.check_free(name, *SCORE_NAMES, RUN_NAME, *times, *others)
        yield folder


def write_scores(
    folder: OutputFolder,
    name: str,
    transcripts: Iterable[Transcript],
    script: str,
    inference: Run | None = None,
    *,
    normalize_text: str = NONE,
    symbols: Symbols | None = None,
    word_times: bool = False,
) -> Outcome:
    """Score, write the transcriptions `name` with the files of scores beside them, and say what the result is made of.

    The caller prints the outcome, as its last line.

    run.json gets the name of the transcriptions. `inference` replaces what run.json says; the caller may then write
    infer_time.txt. The files of an earlier run of `script` are removed, with its times; the results of another script,
    and their times, are kept. Nothing is replaced or removed before all utterances are scored.

    `symbols` are the model's, to explain bad figures. With `word_times`, when each word was said is written, too. If no
    utterance has a reference, there is no `wer.txt`. Raises SuiteError if there are references without a single word,
    or no utterances.
    """
    totals, explanation, ids = Totals(normalize_text), Explanation(symbols), UtteranceIds()
    worst: Worst[Scored] = Worst()
    with ExitStack() as files:
        # Its folder is closed last: that removes what is left of the other files.
        times = files.enter_context(writing_word_times(folder)) if word_times else None
        transcriptions, table, json_lines = (
            files.enter_context(folder.writing(each)) for each in (name, SCORES_NAME, JSON_LINES_NAME)
        )
        trn = None  # both files, from the first utterance with a reference on
        table.write(format_header(normalize_text).encode())
        for item in score(transcripts, normalize_text):
            utterance, hypothesis, errors, trn_id = item.utterance, item.hypothesis, item.raw, ids(item.utterance)
            transcriptions.write(f"{hypothesis}\n".encode())
            table.write(format_row(item, normalize_text).encode())
            json_lines.write(format_json(item, normalize_text).encode())
            totals.add(errors, item.normalized)
            if times is not None:
                times.add(utterance.key, trn_id, item.transcript.words or ())
            if errors is None or utterance.text is None:
                continue
            trn = trn or [files.enter_context(folder.writing(each)) for each in TRN_NAMES]
            for file, text in zip(trn, (utterance.text, hypothesis)):
                file.write(format_trn(text, trn_id).encode())
            explanation.add(utterance.text, hypothesis, errors.words)
            if item.judged is not None:
                worst.add(item.judged.wer, item.judged.errors, item)
        is_scored = totals.scored > 0 or not totals.unscored
        figures = totals.more() if is_scored else {}
        # wer.txt is removed first and written last: its presence means that the other files are whole.
        earlier = read_run(folder.path) or Run(script)
        if earlier.transcriptions is not None:
            say_replaced(folder.path, earlier, scores_alone=earlier.script != script)
        gone = {earlier.transcriptions} - {None, name}
        if earlier.script == script:
            gone |= {INFER_TIME_NAME, SKIPPED_NAME} & set(folder.files() or ())
            inference = inference or Run(script)
        folder.remove(WER_NAME, *(() if is_scored else TRN_NAMES), *map(str, gone))
        if times is None:
            remove_word_times(folder)
        else:
            times.publish()
        run = replace(inference or earlier, transcriptions=name, scored=None if is_scored else False)
        folder.write_run(replace(run, normalize_text=None if normalize_text == NONE else normalize_text))
    written = [SCORES_NAME, JSON_LINES_NAME]
    of_words = [CTM_NAME, captions_name("<key>")] if word_times else []
    if not is_scored:
        say(f"{totals.unscored} utterances, none with a reference: nothing is scored, and there is no {WER_NAME}")
    else:
        folder.write_text(WER_NAME, format_wer(totals.words, figures))
        written = list(SCORE_NAMES)
        _say_scores(totals, figures, worst, normalize_text)
        for line in explanation.lines(totals.words, normalize_text != NONE):
            print(line)
    say(f"written: {folder.path / name}, and beside it {', '.join([*written, *of_words])}")
    return Outcome(totals.scored + totals.unscored, totals.words if is_scored else None, figures)


def _say_scores(totals: Totals, figures: Mapping[str, float], worst: Worst[Scored], normalize_text: str) -> None:
    errors, unscored = totals.words, totals.unscored
    say(f"{totals.scored + unscored} utterances, {errors.words} words")
    if unscored:
        subject, verb = ("utterances have", "are") if unscored > 1 else ("utterance has", "is")
        say(f"{unscored} {subject} no reference and {verb} not scored")
    for item in worst.items():
        judged, utterance = item.judged, item.utterance
        if judged is not None:
            say(f"  {utterance.utterance_id}: {judged.errors} errors in {judged.words} words")
            say(f"    reference:  {_cut(utterance.text or '')}\n    hypothesis: {_cut(item.hypothesis)}")
    say(f"{errors.substitutions} substitutions, {errors.deletions} deletions, {errors.insertions} insertions")
    characters = totals.raw.characters
    say(f"CER {format_percent(characters.cer)} % ({characters.errors} of {characters.characters} characters)")
    if normalize_text == NONE:
        return
    if totals.normalized.words.words:
        words, characters = totals.normalized
        say(
            f"--normalize_text={normalize_text}: WER {format_percent(words.wer)} %, "
            f"CER {format_percent(characters.cer)} %"
        )
    else:
        say(f"--normalize_text={normalize_text}: no WER, because it leaves no word of the references")


def _cut(text: str) -> str:
    """The beginning of the text of a long recording."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]} …"
