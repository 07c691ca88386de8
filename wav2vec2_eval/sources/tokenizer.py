# SPDX-License-Identifier: Apache-2.0
"""The symbols of a CTC tokenizer, id by id as transformers reads them from the small files of a model. Pure functions.

transformers puts special tokens that the vocabulary lacks behind it, gives an id without a symbol the unknown token,
and has its own order among the files. What it does is followed here to the letter, because a model's outputs have been
trained on the ids that it gave. It is not called, because scoring needs neither transformers nor PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import SuiteError
from ..speech.ctc import Symbols

# The tokenizers whose symbols are a vocab.json -> whether their symbols are phonemes.
_PHONEMES = {"Wav2Vec2CTCTokenizer": False, "Wav2Vec2Tokenizer": False, "Wav2Vec2PhonemeCTCTokenizer": True}

# In the order in which those that the vocabulary lacks are put behind it.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_DELIMITERS = ("word_delimiter_token", "phone_delimiter_token")
_DELIMITER = _DELIMITERS[0]
_EXTRA, _OLDER_EXTRA = "extra_special_tokens", "additional_special_tokens"


class TokenizerFiles(NamedTuple):
    """The JSON objects in a model's files; {} for an optional file that is not there."""

    vocabulary: Mapping[str, Any]  # vocab.json
    tokenizer: Mapping[str, Any]  # tokenizer_config.json
    special: Mapping[str, Any]  # special_tokens_map.json
    added: Mapping[str, Any]  # added_tokens.json
    config: Mapping[str, Any]  # config.json


class Tokenizer(NamedTuple):
    """What the files say: the symbols by id, which need not be those of the model's outputs."""

    known: dict[int, str]
    own: frozenset[int]  # the ids in vocab.json
    unknown: str | None  # what every other id stands for
    blank: str | None
    settings: Symbols  # without table and blank

    def num_known(self) -> int:
        """The number of ids from 0 to the last symbol."""
        return max(self.known, default=-1) + 1

    def symbols(self, model: str, num_outputs: int, where: str) -> Symbols:
        """The symbols of a model with so many outputs, as `where` says. Raises SuiteError if the two do not fit."""
        # Added tokens may lie beyond the model's outputs, where they are never predicted; the vocabulary may not.
        if not max(self.own, default=-1) < num_outputs <= self.num_known():
            raise SuiteError(
                f"{model}: vocab.json holds {len(self.own)} symbols, but {where} is {num_outputs!s:.20}; the folder "
                f"mixes two models"
            )
        table = [self.known.get(index, self.unknown) for index in range(num_outputs)]
        if self.blank is None or self.blank not in table:
            raise SuiteError(
                f"{model}: its pad_token, the CTC blank, is {self.blank!r:.100}, which is not in vocab.json"
            )
        if None in table:
            raise SuiteError(f"{model}: output {table.index(None)} has no symbol, and there is no unk_token")
        return self.settings._replace(table=tuple(map(str, table)), blank=self.blank)


def read_tokenizer(model: str, files: TokenizerFiles, target_lang: str | None = None) -> Tokenizer:
    """Read the tokenizer of `model`. If it knows several languages, in `target_lang`, or else in the files' own.

    Raises SuiteError for a tokenizer of another class or an unknown language, and ValueError, TypeError, KeyError or
    AttributeError for values of another type.
    """
    phonemes = _is_of_phonemes(model, files)
    language = target_lang or (None if phonemes else files.tokenizer.get("target_lang"))
    vocabulary = _vocabulary(model, files.vocabulary, language)
    settings, named = _settings(files)
    known = _added_tokens(files)
    for name, found in (("vocab.json", vocabulary.values()), ("the added tokens", known)):
        if not all(type(index) is int and index >= 0 for index in found):
            raise ValueError(f"{name}: the ids are not whole numbers")
    extra = settings[_EXTRA] or []
    if not isinstance(extra, list):
        raise ValueError(f"{_EXTRA} is {extra!r:.100}")
    delimiter, named = _named_tokens(settings, named, phonemes)
    tokens = {**_DEFAULTS, **{name: settings[name] for name in _SPECIAL if name in settings}}
    special = {name: None if tokens[name] is None else _content(tokens[name]) for name in _SPECIAL if name in tokens}
    in_order = [*special.values(), *named.values(), *map(_extra_text, extra)]
    ids: dict[str, int] = {**vocabulary, **{text: index for index, text in sorted(known.items())}}
    # Where the vocabulary has a gap, their number is the id of another symbol, which stays.
    for text in [text for text in dict.fromkeys(in_order) if text and text not in known.values()]:
        known[ids.setdefault(text, len(ids))] = text

    of_vocabulary = {index: text for text, index in vocabulary.items()}  # of two symbols with one id, the last one
    return Tokenizer(
        known={**of_vocabulary, **known} if phonemes else {**known, **of_vocabulary},
        own=frozenset(of_vocabulary),
        unknown=special["unk_token"],
        blank=special["pad_token"],
        settings=Symbols(
            table=(),
            word_delimiter=delimiter,
            replace_word_delimiter=_typed(settings, "replace_word_delimiter_char", " "),
            lower_case=_typed(settings, "do_lower_case", False) and not phonemes,
            clean_up=_typed(settings, "clean_up_tokenization_spaces", False),
            phonemes=phonemes,
        ),
    )


def _is_of_phonemes(model: str, files: TokenizerFiles) -> bool:
    name = files.tokenizer.get("tokenizer_class") or files.config.get("tokenizer_class") or next(iter(_PHONEMES))
    kind = _PHONEMES.get(str(name).removesuffix("Fast"))
    if kind is None:
        raise SuiteError(f"{model}: expected a tokenizer of CTC ({', '.join(_PHONEMES)}), found {name!s:.100}")
    return kind


def _vocabulary(model: str, content: Mapping[str, Any], language: object) -> Mapping[str, Any]:
    """The vocabulary in vocab.json, which may nest one for each language."""
    nested = [name for name, value in content.items() if isinstance(value, dict)]
    if language is None and not nested:
        return content
    if language not in nested:
        found = f"{', '.join(sorted(nested)[:5])}{', …' if len(nested) > 5 else ''}" if nested else "no languages"
        which = "names no language as target_lang" if language is None else f"has no vocabulary of {language!r:.40}"
        raise SuiteError(
            f"{model}: {which}; vocab.json holds {found}"
            + (f" ({len(nested)} in all, as in MMS); choose one by --target_lang" if nested else "")
        )
    return content[str(language)]  # type: ignore[no-any-return]


def _settings(files: TokenizerFiles) -> tuple[dict[str, Any], dict[str, str]]:
    """The tokenizer's settings, and those special tokens of tokenizer_config.json that have names of their own.

    transformers 5 takes any text there whose name ends in _token for a special token, also a word delimiter.
    """
    settings = dict(files.tokenizer)
    if _OLDER_EXTRA in settings and not settings.get(_EXTRA):
        settings[_EXTRA] = settings.pop(_OLDER_EXTRA)
    named = {name: settings.pop(name) for name in list(settings) if _is_named(name) and type(settings[name]) is str}
    if isinstance(settings.get(_EXTRA), dict):
        named.update({name: _content(token) for name, token in settings.pop(_EXTRA).items()})
    if "added_tokens_decoder" not in settings:  # this replaces both older files
        for name, value in files.special.items():
            if name == _EXTRA:
                settings[name] = [*(settings.get(name) or ()), *map(_as_token, value)]
            else:
                settings[name] = _as_token(value)
    settings.setdefault(_EXTRA, settings.get(_OLDER_EXTRA))
    return settings, named


def _added_tokens(files: TokenizerFiles) -> dict[int, str]:
    """The tokens with ids outside vocab.json, by id."""
    decoder = files.tokenizer.get("added_tokens_decoder")
    if decoder is None:
        return {index: text for text, index in files.added.items()}
    return {int(index): _content(_as_token(token)) for index, token in decoder.items()}


def _named_tokens(
    settings: Mapping[str, Any], named: Mapping[str, str], phonemes: bool
) -> tuple[str | None, dict[str, str]]:
    """The symbol between words, and all special tokens with names of their own, in order."""
    value = settings.get(_DELIMITER, None if phonemes else "|")
    delimiter = None if value is None else _content(value)
    others = {name: _content(token) for name, token in settings.items() if _is_named(name) and token is not None}
    if phonemes:  # both delimiters are no special tokens
        found = {**others, **named}
        return named.get(_DELIMITER, delimiter), {name: found[name] for name in found if name not in _DELIMITERS}
    # A text in tokenizer_config.json is a special token, and does not delimit.
    first = {} if delimiter is None else {_DELIMITER: delimiter}
    return delimiter, {**first, **others, **named}


def _is_named(name: str) -> bool:
    return name.endswith("_token") and name not in _SPECIAL


def _extra_text(token: object) -> str:
    """An extra special token. transformers 5 takes an object that is not marked as a token for its own text."""
    return str(token) if isinstance(token, dict) and "__type" not in token else _content(token)


def _as_token(value: object) -> object:
    """An object of a file whose objects are tokens, marked as such."""
    return {"__type": "AddedToken", **value} if isinstance(value, dict) else value


def _typed(settings: Mapping[str, Any], name: str, default: Any) -> Any:
    value = settings.get(name, default)
    if type(value) is not type(default) and not (value is None and default is False):
        raise ValueError(f"{name} is {value!r:.100}")
    return default if value is None else value


def _content(token: object) -> str:
    """The text of a token, which is stored as plain text or as an object with a `content`."""
    content = token
    if isinstance(token, dict) and token.get("__type") == "AddedToken":
        content = token.get("content")
    if not isinstance(content, str):
        raise ValueError(f"a token is {token!r:.100}")
    return content
