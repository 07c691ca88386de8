# SPDX-License-Identifier: Apache-2.0
"""What may explain a bad WER: letters in another case, and characters that the model cannot write."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from .ctc import Symbols
from .wer import WordErrors, word_errors

_NO_TEXT = re.compile(r"<.+>|\[.+\]")  # such as <s>, <unk>, [PAD]
_SHOWN = 20  # characters


class Explanation:
    """Collects, over the scored utterances, what may explain a bad WER. Memory does not grow with them."""

    def __init__(self, symbols: Symbols | None = None) -> None:
        """`symbols` are the model's; without them nothing is said about its characters."""
        self._can_write = None if symbols is None else dict.fromkeys(_characters(symbols) | {" "}, True)
        self._utterances = 0
        self._of_case = 0  # errors that vanish if case is ignored
        self._missing: Counter[str] = Counter()  # character -> number of utterances
        self._with_missing = 0

    def add(self, reference: str, hypothesis: str, errors: WordErrors) -> None:
        """Take in a scored utterance."""
        self._utterances += 1
        if errors.errors and _differ_in_case(reference, hypothesis):
            folded = word_errors([reference.casefold()], [hypothesis.casefold()])
            self._of_case += errors.errors - folded[0].errors
        if self._can_write is not None:
            missing = [character for character in set(reference) if not self._is_written(character, self._can_write)]
            self._missing.update(missing)
            self._with_missing += bool(missing)

    @staticmethod
    def _is_written(character: str, known: dict[str, bool]) -> bool:
        """Whether the model has the character, perhaps in another case, which is another matter."""
        if character not in known:
            variants = (character.lower(), character.upper(), character.casefold())
            known[character] = any(all(known.get(each, False) for each in variant) for variant in variants)
        return known[character]

    def lines(self, errors: WordErrors, normalized: bool) -> Iterator[str]:
        """A line for each explanation; `errors` are the sums. `normalized`: the user has chosen a normaliser."""
        now, folded = (f"{count / errors.words:.4f}" for count in (errors.errors, errors.errors - self._of_case))
        if now != folded:
            advice = "" if normalized else "; see --normalize_text"
            yield f"WER would be {folded} instead of {now} if case were ignored{advice}"
        if self._missing:
            found = sorted(self._missing, key=lambda character: (-self._missing[character], character))
            shown = " ".join(map(_visible, found[:_SHOWN])) + (" …" if len(found) > _SHOWN else "")
            yield (
                f"the references have {len(found)} character{'s' * (len(found) > 1)} that the model cannot write: "
                f"{shown}  (in {self._with_missing} of {self._utterances} utterances)"
            )


def _characters(symbols: Symbols) -> set[str]:
    """What the model can write."""
    written = (
        symbols.replace_word_delimiter if symbol == symbols.word_delimiter else symbol
        for symbol in symbols.table
        if symbol != symbols.blank and not _NO_TEXT.fullmatch(symbol)
    )
    text = "".join(written)
    return set(text.lower() if symbols.lower_case else text)


def _differ_in_case(reference: str, hypothesis: str) -> bool:
    """Whether two of the words are equal if case is ignored, and only then. Otherwise the alignment is the same."""
    words = {*reference.split(), *hypothesis.split()}
    return len({word.casefold() for word in words}) < len(words)


def _visible(character: str) -> str:
    if character.isprintable() and not character.isspace() and not unicodedata.combining(character):
        return character
    return f"U+{ord(character):04X}"
