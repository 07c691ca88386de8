# SPDX-License-Identifier: Apache-2.0
"""When each word was said: words with times from CTC frames, and as lines of NIST's CTM format. Pure functions.

The times say where the model's symbols are. A CTC model recognises most symbols in one or two frames near the middle of
their sounds, so a word begins and ends a little later and earlier than its sound does.
"""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from .audio import SAMPLE_RATE, SAMPLES_PER_FRAME
from .ctc import BestPath, Symbols, decode, pieces


class Word(NamedTuple):
    """A word of a transcript. Its text is not empty and holds no white space."""

    text: str
    start_s: float  # seconds from the start of the recording
    end_s: float
    confidence: float  # from 0 to 1


def words(best: BestPath, symbols: Symbols, num_frames: int | None = None) -> list[Word]:
    """The words of an utterance's transcript, `decode(best.ids, symbols).split()`, in order.

    Their times are those of transformers' `pipeline("automatic-speech-recognition", return_timestamps="word")`: a word
    lasts from the first frame of its first symbol to the end of the last frame of its last symbol, 20 ms a frame.

    - A word is what stands between two word delimiters. Some tokenizers write a delimiter as another character than a
      blank: "A-B" is one word of the transcript, but here, as in transformers, it is the words A and B.
    - A phoneme tokenizer writes blanks between phonemes, so every phoneme is a word.
    - Without word delimiters the whole transcript is one word.
    - The clean-up of older tokenizers joins words, such as "do n't" to "don't". The joined word has the times of both.

    A plain model may recognise symbols in the padding after the recording. With `num_frames`, the frames of the
    recording (`frame_count` of its samples), no word ends after these frames; a word that begins after them is put on
    the last frame.

    The confidence is the mean probability of the word's symbols over their frames. The blanks between them do not
    count: they are nearly always certain, and slow speech has more of them, so they would hide a doubtful symbol.
    """
    if not symbols.replace_word_delimiter.isspace():
        symbols = symbols._replace(replace_word_delimiter=" ", clean_up=False)
    # The clean-up removes blanks and nothing else, so the transcript's characters are still those of the pieces.
    spoken = [
        piece
        for piece in pieces(best.ids, symbols)
        for _ in "".join((piece.text.lower() if symbols.lower_case else piece.text).split())
    ]
    last = len(best.ids) if num_frames is None else num_frames
    probabilities = best.probabilities.tolist()
    found, done = [], 0
    for text in decode(best.ids, symbols).split():
        own = list(dict.fromkeys(spoken[done : done + len(text)]))
        done += len(text)
        start, end = max(min(own[0].start, last - 1), 0), max(min(own[-1].end, last), 1)
        confidence = fmean([each for piece in own for each in probabilities[piece.start : piece.end]])
        found.append(Word(text, _seconds(start), _seconds(end), confidence))
    return found


def _seconds(frame: int) -> float:
    """Where a frame starts."""
    return frame * SAMPLES_PER_FRAME / SAMPLE_RATE


def format_ctm(utterance_id: str, word: Word) -> str:
    """A word's line of a CTM file, with its newline: id, channel, start and duration in seconds, word, confidence.

    The format is that of NIST's sclite (doc/infmts.htm of SCTK), which prescribes no number of decimals. White space
    separates its fields, and a line that begins with ";" is a comment: in an id, these characters become "_".
    """
    name = "_".join(utterance_id.split()) or "_"
    name = f"_{name[1:]}" if name.startswith(";") else name
    duration_s = word.end_s - word.start_s
    return f"{name} A {word.start_s:.3f} {duration_s:.3f} {word.text} {word.confidence:.3f}\n"
