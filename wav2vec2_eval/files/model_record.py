# SPDX-License-Identifier: Apache-2.0
"""`model.json`: what preprocessing and scoring must know of a model, so that neither needs its folder later.

The record travels from preprocess.py with the data into the results, and from export_onnx.py in the metadata of the
.onnx. (An .om has no metadata.) Where two records meet, they must agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import SuiteError
from ..speech.ctc import Symbols
from ..speech.feature_extractor import FeatureExtractor
from .file_list import COPY_AGAIN, Source
from .names import MODEL_RECORD_KEY, MODEL_RECORD_NAME
from .text import decode, parse_json

# Left out where it is False, so that older versions of the suite read the records of all models that they know.
_NEWER = "phonemes"
_FIELDS = [set(FeatureExtractor._fields), set(Symbols._fields)]


class ModelRecord(NamedTuple):
    """How a model wants its waveforms, and what its outputs mean."""

    name: str  # as the user named it; the same model may have several
    extractor: FeatureExtractor
    symbols: Symbols


def format_record(record: ModelRecord) -> str:
    """The JSON text of a record."""
    content = {
        "model": record.name,
        "feature_extractor": record.extractor._asdict(),
        "symbols": {name: value for name, value in record.symbols._asdict().items() if value or name != _NEWER},
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def parse_record(text: str, where: str) -> ModelRecord:
    """Read a record. Raises SuiteError, naming `where` it was found, for anything else."""
    try:
        content = parse_json(text)
        if not isinstance(content, dict) or not isinstance(content["model"], str):
            raise ValueError("model")
        content["symbols"].setdefault(_NEWER, False)
        if [set(content[name]) for name in ("feature_extractor", "symbols")] != _FIELDS:
            raise ValueError("fields")
        extractor = FeatureExtractor(**content["feature_extractor"])
        symbols = Symbols(**{**content["symbols"], "table": tuple(content["symbols"]["table"])})
        _check(extractor, symbols)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise SuiteError(f"{where}: expected what this suite knows of a model, found other JSON ({error})") from None
    return ModelRecord(content["model"], extractor, symbols)


def _check(extractor: FeatureExtractor, symbols: Symbols) -> None:
    """Raise ValueError unless every field is of its type."""
    texts = (*symbols.table, symbols.blank, symbols.replace_word_delimiter)
    flags = (symbols.lower_case, symbols.clean_up, symbols.phonemes, extractor.do_normalize)
    if not all(type(each) is str for each in texts) or not all(type(each) is bool for each in flags):
        raise ValueError("a field of another type")
    if type(symbols.word_delimiter) not in (str, type(None)) or symbols.blank not in symbols.table:
        raise ValueError("no blank or no word delimiter")
    if type(extractor.padding_value) not in (int, float) or not math.isfinite(extractor.padding_value):
        raise ValueError("padding_value")


def read_record(source: Source) -> ModelRecord | None:
    """The record of a data or results folder; None if it has none."""
    if not source.has(MODEL_RECORD_NAME):
        return None
    path = source.folder / MODEL_RECORD_NAME
    return parse_record(decode(source.read(MODEL_RECORD_NAME), str(path), COPY_AGAIN), str(path))


def record_of_model(metadata: Mapping[str, str], where: str) -> ModelRecord | None:
    """The record in a model's metadata; None if it has none, as models of other exporters."""
    text = metadata.get(MODEL_RECORD_KEY)
    return None if text is None else parse_record(text, where)


def agreed(found: dict[str, ModelRecord | None]) -> ModelRecord | None:
    """The record that the places in `found` have, by name; None if no place has one.

    Raises SuiteError, showing both, if two places have records that differ in more than the model's name.
    """
    known = {place: record for place, record in found.items() if record is not None}
    places = list(known)
    for place in places[1:]:
        first, other = known[places[0]], known[place]
        for what, one, two in (
            ("feature extractor", first.extractor, other.extractor),
            ("symbols", first.symbols, other.symbols),
        ):
            if one != two:
                raise SuiteError(
                    f"{places[0]} and {place} are not of one model: the {what} of {first.name} has "
                    f"{_differing(one, two)}, that of {other.name} {_differing(two, one)}; use one model everywhere"
                )
    return known[places[0]] if places else None


def _differing(one: NamedTuple, other: NamedTuple) -> str:
    """The fields of `one` in which the two differ."""
    fields = ((name, mine, getattr(other, name)) for name, mine in one._asdict().items())
    return ", ".join(f"{name} = {_short(mine, theirs)}" for name, mine, theirs in fields if mine != theirs)


def _short(mine: object, theirs: object) -> str:
    if not isinstance(mine, tuple) or not isinstance(theirs, tuple):
        return repr(mine)
    index = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
    return f"{len(mine)} symbols, number {index} is {mine[index] if index < len(mine) else None!r}"
