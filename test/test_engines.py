# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from wav2vec2_eval import engines
from wav2vec2_eval.engines import TensorSpec
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.manifest import Entry


def write_model(path: Path, element: int = TensorProto.FLOAT) -> Path:
    """A model with two inputs `a` (1, n) and `b` (1, n), and the outputs a + b and a - b."""
    inputs = [helper.make_tensor_value_info(name, element, [1, "n"]) for name in "ab"]
    outputs = [helper.make_tensor_value_info(name, element, [1, "n"]) for name in ("sum", "difference")]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    graph = helper.make_graph(nodes, "two inputs", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)
    return path


@pytest.fixture(params=["onnxruntime", "openvino"])
def name(request):
    """Of each CPU engine that is installed here."""
    return pytest.importorskip(request.param) and request.param


def test_cpu_engines_stream_in_order_with_several_inputs_and_outputs(tmp_path, name):
    path = write_model(tmp_path / "model.onnx")
    pairs = [[np.full((1, n), n, np.float32), np.ones((1, n), np.float32)] for n in (3, 1, 2)]
    with engines.open_engine(path, num_threads=2, engine=name) as engine:
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
    with engines.open_engine(write_model(tmp_path / "model.onnx", element), num_threads=1, engine=name) as engine:
        assert [spec.dtype.name for spec in engine.inputs] == [dtype, dtype]


def test_onnx_engine_equals_onnxruntime_to_the_bit(chain):
    path = chain / "models/wav2vec2-base-960h.onnx"
    waveform = np.fromfile(chain / "pre_data/clean/0.bin", np.float32)[None]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    expected = onnxruntime.InferenceSession(path, options).run(None, {"input": waveform})[0]
    with engines.open_engine(path, num_threads=2, engine="onnxruntime") as engine:
        (result,) = engine.stream([[waveform]])
    assert result.outputs[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("none.onnx", None, "no such model file"),
        ("empty.onnx", b"", "cannot be loaded"),
        ("garbage.onnx", b"garbage" * 99, "cannot be loaded"),
        ("model.pt", b"x", "expected a model that ends in .onnx or .om"),
    ],
)
def test_unusable_models(tmp_path, file, content, message, name):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        engines.open_engine(tmp_path / file, num_threads=1, engine=name)
    assert not list(tmp_path.glob("openvino_cache/*"))


def test_a_cut_model_is_refused(chain, tmp_path, name):
    content = (chain / "models/wav2vec2-base-960h.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SuiteError, match="cannot be loaded"):
        engines.open_engine(path, num_threads=1, engine=name)


@pytest.mark.parametrize(
    "option", [{"engine": "onnxruntime"}, {"precision": "bf16"}, {"batch_size": 2}, {"in_flight": 1}]
)
def test_an_om_takes_no_options_of_the_cpu(tmp_path, option):
    (tmp_path / "model.om").write_bytes(b"x")
    with pytest.raises(SuiteError, match=f"--{next(iter(option))}"):
        engines.open_engine(tmp_path / "model.om", num_threads=1, **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"precision": "bf16"}, "onnxruntime computes in float32"), ({"in_flight": 2}, "onnxruntime takes one at a time")],
)
def test_what_onnxruntime_cannot_do(tmp_path, option, message):
    with pytest.raises(SuiteError, match=message):
        engines.open_engine(write_model(tmp_path / "m.onnx"), num_threads=1, engine="onnxruntime", **option)


class TwoInputs:
    """As much of an engine as check_inputs looks at."""

    inputs = (TensorSpec("input", np.dtype("float32"), (1, None)), TensorSpec("mask", np.dtype("float32"), (1, None)))

    def __init__(self, gears=None):
        self.gears = gears


def entries(*shapes):
    return {"0": [Entry("0", Path(f"{index}.bin"), shape) for index, shape in enumerate(shapes)]}


def test_check_inputs_accepts():
    engines.check_inputs(TwoInputs(), [np.dtype("float32")] * 2, entries((1, 5), (1, 5)))
    engines.check_inputs(TwoInputs(), [np.dtype("float16"), np.dtype("float64")], entries((1, 5), (1, 5)))
    engines.check_inputs(TwoInputs([(1, 4, 1, 4), (1, 5, 1, 5)]), [np.dtype("float32")] * 2, entries((1, 5), (1, 5)))


def test_check_inputs_refuses_what_is_no_gear():
    engine = TwoInputs([(1, 10, 1, 10), (1, 20, 1, 20)])
    with pytest.raises(SuiteError, match=r"15 samples are no gear of the model; .* --gears=10,20"):
        engines.check_inputs(engine, [np.dtype("float32")] * 2, entries((1, 15), (1, 15)))


@pytest.mark.parametrize(
    ("dtypes", "shapes", "message"),
    [
        (["float32"], [(1, 5)], "inputs are input float32, mask float32"),
        (["float32", "int64"], [(1, 5), (1, 5)], "--input_dtypes=float32,int64"),
        (["float32", "float32"], [(1, 5)], "expected 2 inputs"),
        (["float32", "float32"], [(1, 5), (2, 5)], r"mask has shape \(1,\*\), the manifest says \(2,5\)"),
        (["float32", "float32"], [(1, 5), (5,)], r"mask has shape \(1,\*\), the manifest says \(5\)"),
    ],
)
def test_check_inputs_refuses(dtypes, shapes, message):
    with pytest.raises(SuiteError, match=message):
        engines.check_inputs(TwoInputs(), [np.dtype(name) for name in dtypes], entries(*shapes))
