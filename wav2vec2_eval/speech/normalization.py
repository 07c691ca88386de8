# SPDX-License-Identifier: Apache-2.0
"""Text normalisation before scoring: Whisper's two normalisers, by the package whisper-normalizer. Pure functions.

`english` ignores case and punctuation, fillers such as "uh", British spelling, contractions, and how numbers are
written. `basic` ignores case, and makes punctuation, symbols and combining marks blanks, for other languages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..errors import SuiteError

NONE = "none"
CHOICES = (NONE, "basic", "english")


def check_installed(choice: str) -> None:
    """Raise ModuleNotFoundError if the choice needs whisper_normalizer and it is missing."""
    if choice != NONE:
        importlib.import_module("whisper_normalizer")


def normalizer(choice: str) -> Callable[[str], str] | None:
    """The function that normalises a reference or a hypothesis; None for `none`."""
    if choice == NONE:
        return None
    if choice == "basic":
        from whisper_normalizer.basic import BasicTextNormalizer as Normalizer
    else:
        from whisper_normalizer.english import EnglishTextNormalizer as Normalizer
    normalize: Callable[[str], str] = Normalizer()

    def checked(text: str) -> str:
        try:
            return normalize(text)
        except Exception as error:  # whatever the package cannot do with a text, the user is told of the text
            raise SuiteError(
                f"--normalize_text={choice} cannot normalize {text!r:.200} ({type(error).__name__}: {error}); correct "
                f"the text, or use another normalizer"
            ) from None

    return checked
