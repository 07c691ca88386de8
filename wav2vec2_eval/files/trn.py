# SPDX-License-Identifier: Apache-2.0
"""`ref.trn` and `hyp.trn`, transcripts for NIST's sclite: one line for each scored utterance, `<words> (<id>)`.

The documentation of SCTK (doc/infmts.htm) and its reader give some characters a meaning: `{ a / b }` are alternatives,
`@` is no word, `(word)` may be left out, `;;` begins a comment and `;` a tag inside a word, which a backslash escapes.
There is no way to write these characters as text. So they are written in their full-width forms, alike in references
and hypotheses. A slash means nothing without the braces.
"""

from __future__ import annotations

import re

from .utterances import Utterance

_FULL_WIDTH = str.maketrans({character: chr(ord(character) + 0xFEE0) for character in "{}@();\\"})
_NOT_IN_ID = re.compile(r"[\s()]")


class UtteranceIds:
    """Gives each utterance its id in the transcripts: blanks and parentheses become `_`.

    If an earlier utterance has the same id then, the utterance's key is appended. Takes about 60 bytes per utterance.
    """

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def __call__(self, utterance: Utterance) -> str:
        found = _NOT_IN_ID.sub("_", utterance.utterance_id) or utterance.key
        while hash(found) in self._hashes:
            found += f"_{utterance.key}"
        self._hashes.add(hash(found))
        return found


def format_trn(text: str, utterance_id: str) -> str:
    """A line of a transcript, with its newline."""
    return f"{text.translate(_FULL_WIDTH)} ({utterance_id})".lstrip() + "\n"
