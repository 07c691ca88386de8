# SPDX-License-Identifier: Apache-2.0
"""Proves what every engine has: the checks of models, data and outputs, and a release that hides no earlier failure."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.engines.base import (
    Arrays,
    Engine,
    Port,
    Result,
    TensorSpec,
    check_model,
    check_precision,
    failed,
    unusable,
)
from wav2vec2_eval.errors import SuiteError

FLOAT32 = np.dtype("float32")


class TwoInputs(Engine):
    """An engine whose model has the inputs `input` and `mask`.

    Its outputs are `outputs`, for every utterance. Closing it raises `failure`, if there is one.
    """

    inputs: Sequence[TensorSpec] = (TensorSpec("input", FLOAT32, (1, None)), TensorSpec("mask", FLOAT32, (1, None)))

    def __init__(
        self,
        gears: Sequence[tuple[int, ...]] | None = None,
        failure: Exception | None = None,
        outputs: Sequence[object] = (),
    ) -> None:
        self.gears = gears
        self.failure = failure
        self.outputs = outputs
        self.closed = 0
        self.ended = False

    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        try:
            for _ in utterances:
                yield Result(list(self.outputs), pure_ns=1)  # type: ignore[arg-type]
        finally:
            self.ended = True

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
    engine.check_shapes("0", [(1, 5), (1, 5)])
    TwoInputs([(1, 4, 1, 4), (1, 5, 1, 5)]).check_shapes("0", [(1, 5), (1, 5)])


def test_check_inputs_refuses_what_is_no_gear():
    engine = TwoInputs([(1, 10, 1, 10), (1, 20, 1, 20)])
    with pytest.raises(SuiteError, match=r"utterance b: 15 samples are no gear of the model; .* --gears=10,20"):
        for key, length in (("a", 10), ("b", 15)):
            engine.check_shapes(key, [(1, length)] * 2)


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
        engine.check_shapes("0", shapes)


BOTH_OR_NEITHER = "give --attention_mask to both preprocess.py and export_onnx.py, or to neither"
FOR_PREPROCESS = (
    "expected --input_dtypes=float32,float32 for the float32 files of preprocess.py, or the inputs' own types"
)


def with_inputs(names: str) -> TwoInputs:
    """An engine whose model has inputs of these types, `a` first, then `b` …"""
    engine = TwoInputs()
    engine.inputs = [TensorSpec(name, dtype, (1, None)) for name, dtype in zip("abc", dtypes(*names.split(",")))]
    return engine


@pytest.mark.parametrize(
    ("inputs", "names", "advice"),
    [
        ("float32,float32", "float32", f"expected --input_dtypes=float32,float32 .*; {BOTH_OR_NEITHER}"),
        ("float32,float32", "float32,float32,float32", BOTH_OR_NEITHER),
        ("float32,float32", "", BOTH_OR_NEITHER),
        ("float32", "float32,float32", f"expected --input_dtypes=float32 .*; {BOTH_OR_NEITHER}"),
        ("float32", "int32", "expected --input_dtypes=float32$"),
        ("float32,float32", "float32,bool", "expected --input_dtypes=float32,float32$"),
        ("float16", "int16", "expected --input_dtypes=float16$"),  # sound that nobody has scaled
        # Another exporter's mask. Telling the user to give int64 would only move the error to the size of the files.
        ("float32,int64", "float32", f"{FOR_PREPROCESS} .*; {BOTH_OR_NEITHER}"),
        ("float32,int64", "float32,int32", FOR_PREPROCESS),
        ("float32,bool", "int8,bool", FOR_PREPROCESS),
    ],
)
def test_check_dtypes_refuses_and_says_what_to_do(inputs, names, advice):
    with pytest.raises(SuiteError, match=f"^--input_dtypes={names}: the model's inputs are a .*{advice}"):
        with_inputs(inputs).check_dtypes(dtypes(*filter(None, names.split(","))))


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mask", [*INTEGERS, "bool"])
def test_a_mask_of_floats_fits_every_input(kind, mask):
    engine, files = with_inputs(f"float32,{mask}"), dtypes("float32", kind)
    engine.check_dtypes(files)
    waveform, ones = np.array([[0.5, -0.25, 3]], "float32"), np.array([[1, 1, 0]], kind)
    converted = engine.convert("0", [waveform, ones])
    assert converted[0] is waveform
    assert (converted[1].dtype.name, converted[1].tolist()) == (mask, [[1, 1, 0]])


@pytest.mark.parametrize(
    ("dtype", "kind", "number"),
    [
        ("int16", "float32", 0.5),
        ("int16", "float32", -1.25),
        ("int16", "float32", 32768.0),
        ("uint8", "float16", -1.0),
        ("bool", "float32", 2.0),
        ("bool", "float64", 1e-300),
        # No float32 is the largest int64; the next larger number is one, and ARM's processors would cut it.
        ("int64", "float32", 2.0**63),
        ("uint64", "float64", 2.0**64),
        ("int32", "float64", float("nan")),
        ("int32", "float64", float("-inf")),
    ],
)
def test_a_number_that_would_change_is_refused(dtype, kind, number):
    array = np.array([[1, 0, number, number]], kind)
    found = re.escape(f"found {number!r} (value 2 of the {kind} file)")
    with pytest.raises(SuiteError, match=rf"^utterance k: the model's a is {dtype}, expected whole numbers .*{found};"):
        with_inputs(dtype).convert("k", [array])


@pytest.mark.parametrize(("dtype", "number"), [("int64", -(2.0**63)), ("int32", 2.0**31 - 1), ("int8", -0.0)])
def test_the_limits_of_an_integer_are_numbers_of_its_own(dtype, number):
    (converted,) = with_inputs(dtype).convert("k", [np.array([number], np.float64)])
    assert converted.tolist() == [int(number)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_check_shapes_says_what_to_do_if_only_data_or_model_have_a_mask(count):
    with pytest.raises(SuiteError, match=f"expected 2 inputs .*, found {count} manifest lines; {BOTH_OR_NEITHER}"):
        TwoInputs().check_shapes("0", [(1, 5)] * count)


@pytest.mark.parametrize("shapes", [[], [(1, 5)], [(1, 5)] * 3, [(2, 5), (1, 5)], [(1, 5), (1, 5, 1)]])
def test_check_shapes_refuses_and_names_the_utterance(shapes):
    with pytest.raises(SuiteError, match="utterance bad: "):
        TwoInputs().check_shapes("bad", shapes)


INPUT, OUTPUT = Port("input", "float32", (1, None)), Port("output", "float16", (1, None, 32))


def test_check_model_accepts():
    unknown_rank = Port("other", "int64", None)
    specs, output_dtypes = check_model(Path("m.onnx"), iter([INPUT]), iter([OUTPUT, unknown_rank]))
    assert specs == [TensorSpec("input", FLOAT32, (1, None))]
    assert output_dtypes == dtypes("float16", "int64")


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], [OUTPUT], r"cannot be loaded \(it has 0 inputs and 1 outputs\)"),
        ([INPUT], [], r"cannot be loaded \(it has 1 inputs and 0 outputs\)"),
        ([INPUT._replace(element="string")], [OUTPUT], "model input input: expected a tensor of .*, found string;"),
        ([INPUT], [OUTPUT, OUTPUT._replace(element="seq(float)")], r"model output output: .*, found seq\(float\);"),
        ([INPUT], [OUTPUT._replace(element="bfloat16")], "model output output: .*, found bfloat16;"),
        ([INPUT._replace(shape=())], [OUTPUT], "model input input: .*, found float32 without axes;"),
        ([INPUT._replace(shape=None)], [OUTPUT], "model input input: .*, found float32 without axes;"),
        ([INPUT], [OUTPUT._replace(shape=())], "model output output: .*, found float16 without axes;"),
    ],
)
def test_check_model_refuses(inputs, outputs, message):
    with pytest.raises(SuiteError, match=f"m.onnx: {message}"):
        check_model(Path("m.onnx"), inputs, outputs)


def test_outputs_are_handed_over_as_they_are():
    outputs = [np.ones((1, 2, 3), np.float16), np.ones(1, bool)]
    engine = TwoInputs(outputs=outputs)
    for result in engine.stream([[], []]):
        assert all(one is other for one, other in zip(result.outputs, outputs, strict=True))
    assert engine.ended


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ([np.ones(2)], "a list"),
        ("text", "a str"),
        (None, "a NoneType"),
        (np.float32(1), "a float32"),
        (np.array(1, np.float32), r"float32 \(\)"),
        (np.array(["text"], object), r"object \(1\)"),
        (np.array(["text"]), r"str128 \(1\)"),
        (np.array([b"t"]), r"bytes8 \(1\)"),
        (np.ones((1, 2), np.complex64), r"complex64 \(1,2\)"),
        (np.ones((1, 0, 32), np.float32), r"float32 \(1,0,32\)"),
    ],
)
def test_an_output_that_no_file_can_hold_is_refused_at_the_first_utterance(output, found):
    engine = TwoInputs(outputs=[np.ones((1, 2), np.float32), output])
    with pytest.raises(SuiteError, match=f"model output 1: expected a tensor of .*, found {found}; change the model"):
        next(engine.stream([[], []]))
    assert engine.ended


def test_closing_a_stream_ends_the_engines_work():
    engine = TwoInputs(outputs=[np.ones(1)])
    stream = engine.stream([[], []])
    next(stream)
    stream.close()
    assert engine.ended


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
    error = failed("Engine", [np.ones((1, 2)), np.ones(3)], RuntimeError("first line\nsecond"))
    assert str(error) == "Engine failed on inputs of shape (1, 2), (3,): first line second"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("/a/long/path/bfc_arena.cc:360 void* BFCArena::AllocateRawInternal Failed to allocate memory"),
        RuntimeError("pthread_create failed, error code: 11"),
        RuntimeError("plugin.cpp:54: Resource temporarily unavailable"),
    ],
)
def test_a_lack_of_memory_is_not_the_models_fault(error):
    assert str(unusable(Path("m.onnx"), error)) == (
        "m.onnx: not enough memory to load it; free some, or see --num_threads"
    )
    assert str(failed("Engine", [np.ones(3)], error)) == "Engine failed on inputs of shape (3,): not enough memory"
