# SPDX-License-Identifier: Apache-2.0
"""Proves which engine opens for a model file and its options, and that every CPU engine keeps one contract."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from wav2vec2_eval.engines import choose
from wav2vec2_eval.engines.base import TensorSpec
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.precision import choose_cpu_engine, parse_precision
from wav2vec2_eval.errors import SuiteError

from conftest import write_two_input_model


@pytest.fixture(params=["onnxruntime", "openvino"])
def name(request):
    """Each CPU engine that is installed here."""
    return pytest.importorskip(request.param) and request.param


def test_cpu_engines_stream_in_order_with_several_inputs_and_outputs(tmp_path, name):
    path = write_two_input_model(tmp_path / "model.onnx")
    pairs = [[np.full((1, n), n, np.float32), np.ones((1, n), np.float32)] for n in (3, 1, 2)]
    with open_engine(path, num_threads=2, engine=name) as engine:
        assert engine.inputs == [TensorSpec(name, np.dtype("float32"), (1, None)) for name in "ab"]
        results = list(engine.stream(iter(pairs)))
    for (a, b), result in zip(pairs, results, strict=True):
        assert [output.tolist() for output in result.outputs] == [(a + b).tolist(), (a - b).tolist()]
        assert result.pure_ns >= 0


@pytest.mark.parametrize(
    ("element", "dtype"),
    [(TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "float64"), (TensorProto.INT64, "int64")],
)
def test_cpu_engines_know_the_models_types(tmp_path, element, dtype, name):
    path = write_two_input_model(tmp_path / "model.onnx", element)
    with open_engine(path, num_threads=1, engine=name) as engine:
        assert [spec.dtype.name for spec in engine.inputs] == [dtype, dtype]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("none.onnx", None, "no such model file"),
        ("empty.onnx", b"", "cannot be loaded"),
        ("garbage.onnx", b"garbage" * 99, "cannot be loaded"),
        ("model.pt", b"x", "expected a model that ends in .onnx, .om or .om2"),
    ],
)
def test_unusable_models(tmp_path, file, content, message, name):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        open_engine(tmp_path / file, num_threads=1, engine=name)
    assert not list(tmp_path.glob("*-openvino"))


def test_a_cut_model_is_refused(chain, tmp_path, name):
    content = (chain / "models/wav2vec2-base-960h.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SuiteError, match="cannot be loaded"):
        open_engine(path, num_threads=1, engine=name)


def tensor(name: str, element: int = TensorProto.FLOAT, axes: tuple[str, ...] | None = ("a", "b")):
    return helper.make_tensor_value_info(name, element, axes)


NEG = helper.make_node("Neg", ["input"], ["output"])
INPUT, OUTPUT = tensor("input"), tensor("output")
TEXT = numpy_helper.from_array(np.array(["x"], object))
OPTIONAL = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ("a", "b")))

# Inputs, nodes besides NEG, and outputs of models that an engine's library may load, but whose results no file holds.
ODD_MODELS = {
    "no input": ([], [helper.make_node("Constant", [], ["input"], value_float=1.0)], [OUTPUT]),
    "no output": ([INPUT], [], []),
    "a scalar": (
        [INPUT],
        [helper.make_node("ReduceMean", ["input"], ["x"], keepdims=0)],
        [OUTPUT, tensor("x", axes=())],
    ),
    "a scalar of unknown shape": (
        [INPUT],
        [helper.make_node("ReduceMean", ["input"], ["x"], keepdims=0)],
        [OUTPUT, tensor("x", axes=None)],
    ),
    "a scalar alone": (
        [INPUT],
        [helper.make_node("ReduceMean", ["output"], ["x"], keepdims=0)],
        [tensor("x", axes=())],
    ),
    "a scalar input": ([tensor("input", axes=())], [], [tensor("output", axes=())]),
    "a text": (
        [INPUT],
        [helper.make_node("Constant", [], ["x"], value=TEXT)],
        [OUTPUT, tensor("x", TensorProto.STRING, ("a",))],
    ),
    "a sequence": (
        [INPUT],
        [helper.make_node("SequenceConstruct", ["input"], ["x"])],
        [OUTPUT, helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)],
    ),
    "an optional": (
        [INPUT],
        [helper.make_node("Optional", ["input"], ["x"])],
        [OUTPUT, helper.make_value_info("x", OPTIONAL)],
    ),
    "bfloat16": (
        [INPUT],
        [helper.make_node("Cast", ["input"], ["x"], to=TensorProto.BFLOAT16)],
        [OUTPUT, tensor("x", TensorProto.BFLOAT16)],
    ),
    "float8": (
        [INPUT],
        [helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT8E5M2)],
        [OUTPUT, tensor("x", TensorProto.FLOAT8E5M2)],
    ),
    "nothing": (
        [INPUT],
        [
            helper.make_node("Constant", [], ["zero"], value_ints=[0]),
            helper.make_node("Slice", ["input", "zero", "zero"], ["x"]),
        ],
        [OUTPUT, tensor("x")],
    ),
}


@pytest.mark.parametrize("odd", ODD_MODELS)
def test_a_model_whose_results_no_file_holds_is_refused_before_a_result(tmp_path, name, odd):
    """In one line, when it is opened, or at the first utterance if only the computing shows it."""
    inputs, nodes, outputs = ODD_MODELS[odd]
    graph = helper.make_graph([*nodes, NEG] if odd != "a scalar alone" else [NEG, *nodes], odd, inputs, outputs)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    read = []

    def utterances():
        for number in range(2):
            read.append(number)
            yield [np.ones((1, 5), np.float32)]

    with (
        pytest.raises(SuiteError, match=r"change the model$|cannot be loaded") as refusal,
        open_engine(path, num_threads=1, engine=name) as engine,
    ):
        next(engine.stream(utterances()))
    assert len(read) <= 1
    assert "\n" not in str(refusal.value)


def test_metadata_are_read_as_they_were_written(tmp_path, name):
    written = {"symbols": '["<pad>", "é", "\\u2028"]\n', "empty": "", "": "no key", "x" * 300: "<&>\t"}
    path = write_two_input_model(tmp_path / "m.onnx")
    with open_engine(path, num_threads=1, engine=name) as engine:
        assert dict(engine.metadata) == {}
    model = onnx.load(path)
    helper.set_model_props(model, written)
    onnx.save(model, path)
    with open_engine(path, num_threads=1, engine=name) as engine:
        assert dict(engine.metadata) == written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1025}, "--batch_size=1025: expected at most 1024 utterances"),
        ({"in_flight": 3}, "--in_flight=3: expected at most --num_threads=2"),
        ({"in_flight": 999_999_999}, "--in_flight=999999999: expected at most --num_threads=2"),
    ],
)
def test_options_have_upper_bounds(tmp_path, options, message):
    pytest.importorskip("openvino")
    path = write_two_input_model(tmp_path / "m.onnx")
    with pytest.raises(SuiteError, match=message):
        open_engine(path, num_threads=2, engine="openvino", **options)


@pytest.mark.parametrize(
    "option", [{"engine": "onnxruntime"}, {"precision": "bf16"}, {"batch_size": 2}, {"in_flight": 1}]
)
def test_an_om_takes_no_options_of_the_cpu(tmp_path, option):
    (tmp_path / "model.om").write_bytes(b"x")
    with pytest.raises(SuiteError, match=f"--{next(iter(option))}"):
        open_engine(tmp_path / "model.om", num_threads=1, **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"precision": "bf16"}, "onnxruntime computes in float32"), ({"in_flight": 2}, "onnxruntime takes one at a time")],
)
def test_what_onnxruntime_cannot_do(tmp_path, option, message):
    path = write_two_input_model(tmp_path / "m.onnx")
    with pytest.raises(SuiteError, match=message):
        open_engine(path, num_threads=1, engine="onnxruntime", **option)


def test_where_it_is_not_installed(tmp_path, monkeypatch):
    path = write_two_input_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SuiteError, match=r"--precision=bf16: onnxruntime .* pip install -r"):
        open_engine(path, num_threads=1, precision="bf16")
    with pytest.raises(SuiteError, match="--engine=openvino: OpenVINO cannot be imported; pip install -r"):
        open_engine(path, num_threads=1, engine="openvino")


@pytest.mark.parametrize(
    ("engine", "precision", "installed", "chosen"),
    [
        ("auto", "f32", True, "onnxruntime"),
        ("auto", "f32", False, "onnxruntime"),
        ("auto", "bf16", True, "openvino"),
        ("auto", "int8", True, "openvino"),
        ("auto", "int8", False, "onnxruntime"),
        ("openvino", "f32", True, "openvino"),
        ("onnxruntime", "int8", True, "onnxruntime"),
    ],
)
def test_auto_is_openvino_below_float32(engine, precision, installed, chosen):
    assert choose_cpu_engine(engine, precision, lambda: installed) == chosen


@pytest.mark.parametrize(
    ("engine", "precision", "installed"),
    [("openvino", "f32", False), ("onnxruntime", "bf16", True), ("auto", "bf16", False)],
)
def test_what_no_engine_of_this_host_can_do(engine, precision, installed):
    with pytest.raises(SuiteError, match=r"pip install -r requirements-openvino\.txt"):
        choose_cpu_engine(engine, precision, lambda: installed)


@pytest.mark.parametrize(("text", "name"), [("float32", "f32"), ("bf16", "bf16"), ("bfloat16", "bf16"), ("f64", "f64")])
def test_a_precision_has_two_names(text, name):
    assert parse_precision(text) == name


def test_openvino_is_not_imported_for_onnxruntime(tmp_path, monkeypatch):
    """It would cost time and memory, and a broken installation of it would matter."""
    monkeypatch.setattr(choose, "is_installed", lambda: pytest.fail("OpenVINO was imported"))
    path = write_two_input_model(tmp_path / "m.onnx")
    for engine in ("auto", "onnxruntime"):
        choose.open_engine(path, num_threads=1, engine=engine).close()
