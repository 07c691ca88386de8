# SPDX-License-Identifier: Apache-2.0
"""Proves what every engine has: the checks of dtypes and shapes, and a release that hides no earlier failure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.engines.base import Arrays, Engine, Result, TensorSpec, check_precision, unusable
from wav2vec2_eval.errors import SuiteError

FLOAT32 = np.dtype("float32")


class TwoInputs(Engine):
    """An engine whose model has the inputs `input` and `mask`; closing it raises `failure`, if there is one."""

    inputs = (TensorSpec("input", FLOAT32, (1, None)), TensorSpec("mask", FLOAT32, (1, None)))

    def __init__(self, gears: Sequence[tuple[int, ...]] | None = None, failure: Exception | None = None) -> None:
        self.gears = gears
        self.failure = failure
        self.closed = 0

    def stream(self, utterances: Iterable[Arrays]) -> Iterator[Result]:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1
        if self.failure:
            raise self.failure


def dtypes(*names: str) -> list[np.dtype]:
    return [np.dtype(name) for name in names]


def test_check_inputs_accepts():
    engine = TwoInputs()
    for names in (["float32", "float32"], ["float16", "float64"]):
        engine.check_dtypes(dtypes(*names))
    engine.check_shapes({"0": [(1, 5), (1, 5)]})
    TwoInputs([(1, 4, 1, 4), (1, 5, 1, 5)]).check_shapes({"0": [(1, 5), (1, 5)]})


def test_check_inputs_refuses_what_is_no_gear():
    engine = TwoInputs([(1, 10, 1, 10), (1, 20, 1, 20)])
    with pytest.raises(SuiteError, match=r"utterance b: 15 samples are no gear of the model; .* --gears=10,20"):
        engine.check_shapes({"a": [(1, 10), (1, 10)], "b": [(1, 15), (1, 15)]})


@pytest.mark.parametrize(
    ("names", "shapes", "message"),
    [
        (["float32"], [(1, 5)], "inputs are input float32, mask float32"),
        (["float32", "int64"], [(1, 5), (1, 5)], "--input_dtypes=float32,int64"),
        (["float32", "float32"], [(1, 5)], "expected 2 inputs"),
        (["float32", "float32"], [(1, 5), (2, 5)], r"mask has shape \(1,\*\), the manifest says \(2,5\)"),
        (["float32", "float32"], [(1, 5), (5,)], r"mask has shape \(1,\*\), the manifest says \(5\)"),
    ],
)
def test_check_inputs_refuses(names, shapes, message):
    """As pyacl_infer.py checks: the dtypes first, then the shapes."""
    engine = TwoInputs()
    with pytest.raises(SuiteError, match=message):
        engine.check_dtypes(dtypes(*names))
        engine.check_shapes({"0": shapes})


@pytest.mark.parametrize("names", [["float32"], ["float32"] * 3, ["int32", "float32"], ["float32", "bool"], []])
def test_check_dtypes_refuses(names):
    with pytest.raises(SuiteError, match="give one dtype for each, in this order"):
        TwoInputs().check_dtypes(dtypes(*names))


@pytest.mark.parametrize("shapes", [[], [(1, 5)], [(1, 5)] * 3, [(2, 5), (1, 5)], [(1, 5), (1, 5, 1)]])
def test_check_shapes_refuses_and_names_the_utterance(shapes):
    with pytest.raises(SuiteError, match="utterance bad: "):
        TwoInputs().check_shapes({"good": [(1, 5), (1, 5)], "bad": shapes})


def test_an_engine_is_closed_once_on_leaving():
    with TwoInputs() as engine:
        assert engine.closed == 0
    assert engine.closed == 1


def test_a_failure_of_the_release_is_raised():
    with pytest.raises(SuiteError, match="release"), TwoInputs(failure=SuiteError("release")):
        pass


def test_a_failure_of_the_release_does_not_hide_the_failure_before_it():
    with pytest.raises(SuiteError, match="first"), TwoInputs(failure=SuiteError("release")) as engine:
        raise SuiteError("first")
    assert engine.closed == 1


@pytest.mark.parametrize(("asked", "stored"), [("f32", None), ("bf16", None), ("int8", "int8")])
def test_check_precision_accepts(asked, stored):
    check_precision(Path("m.onnx"), asked, stored)


@pytest.mark.parametrize(
    ("asked", "stored", "message"),
    [
        ("int8", None, "--precision=int8, but the model's weights are f32; export it with --quantize=int8 first"),
        ("f32", "int8", "--precision=f32, but the model's weights are int8; give --precision=int8"),
        ("bf16", "int8", "--precision=bf16, but the model's weights are int8; give --precision=int8"),
    ],
)
def test_check_precision_refuses(asked, stored, message):
    with pytest.raises(SuiteError, match=f"m.onnx: {message}"):
        check_precision(Path("m.onnx"), asked, stored)


def test_a_librarys_error_becomes_one_line():
    error = unusable(Path("m.onnx"), RuntimeError("first line\n" + "x" * 999))
    assert str(error).startswith("m.onnx: cannot be loaded (first line xxx")
    assert str(error).endswith("x); export it again with export_onnx.py")
    assert len(str(error)) < 300
