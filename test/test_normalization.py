# SPDX-License-Identifier: Apache-2.0
"""Proves that both normalisers are those of whisper_normalizer, and what happens without it."""

from __future__ import annotations

import sys

import pytest
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech.normalization import CHOICES, check_installed, normalizer

TEXTS = (
    *("", " ", "uh", "Uh, hmm.", "That man painted the floor.", "IT'S ALL RIGHT HE SAID", "it is all right he said"),
    *(
        "colour",
        "twenty-three dollars",
        "$23",
        "1,000 and 2.5 percent",
        "Mr. O\u2019Brien won't",
        "[noise] hello (laughs)",
    ),
    *("ÉTÉ À L'ÉCOLE", "Straße", "你好\uff0c世界", "हिन्दी", "½ ² ٣", "{ a / b } @"),
)


@pytest.mark.parametrize(("choice", "peer"), [("basic", BasicTextNormalizer()), ("english", EnglishTextNormalizer())])
def test_a_normalizer_is_that_of_the_package(choice, peer):
    normalize = normalizer(choice)
    assert [normalize(text) for text in TEXTS] == [peer(text) for text in TEXTS]


def test_none_normalizes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper_normalizer", None)
    assert normalizer("none") is None
    check_installed("none")


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice != "none"])
def test_a_missing_package_is_reported(choice, monkeypatch):
    check_installed(choice)
    monkeypatch.setitem(sys.modules, "whisper_normalizer", None)
    with pytest.raises(ModuleNotFoundError, match="whisper_normalizer"):
        check_installed(choice)


def test_a_text_that_the_package_cannot_normalize_is_named(monkeypatch):
    monkeypatch.setattr(EnglishTextNormalizer, "__call__", lambda _self, text: int(text))
    with pytest.raises(SuiteError, match="--normalize_text=english cannot normalize 'odd' "):
        normalizer("english")("odd")
