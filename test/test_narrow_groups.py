# SPDX-License-Identifier: Apache-2.0
"""Proves which convolutions count as narrow, and that OpenVINO gets others, which compute the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from wav2vec2_eval.engines import openvino_cpu
from wav2vec2_eval.engines.narrow_groups import ENOUGH_CHANNELS, is_narrow, widen
from wav2vec2_eval.engines.openvino_model import read_in_2d, read_model
from wav2vec2_eval.export import graph

from conftest import DEMO, load_for_export, noise

openvino = pytest.importorskip("openvino")


@pytest.mark.parametrize(
    ("channels", "taps", "narrow"),
    [
        (12, 64, True),  # measured to be wrong, as the next ones
        (2, 64, True),
        (12, 128, True),
        (4, 16, True),
        (12, 16, True),
        (12, 3, False),  # measured to be right, as the next ones
        (2, 16, False),
        (16, 128, False),
        (48, 128, False),
        (1, 10, False),  # the first convolution
        (512, 3, False),
    ],
)
def test_what_is_narrow(channels, taps, narrow):
    assert is_narrow(channels, taps) == narrow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's model, whose positional convolution has 16 groups of 12 channels and 64 taps: plain and masked."""
    folder = tmp_path_factory.mktemp("demo")
    model = load_for_export(DEMO / "model")
    for name in ("plain", "masked"):
        graph.write_graph(model, folder / f"{name}.onnx", attention_mask=name == "masked")
    return folder


def convolution(channels: int, kernel: tuple[int, ...], groups: int = 1) -> onnx.ModelProto:
    """(1, groups x channels, ...) -> a convolution of random weights, with 3 outputs per group, a bias and padding."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((3 * groups, channels, *kernel)).astype(np.float32)
    bias = random.standard_normal(3 * groups).astype(np.float32)
    around = [size // 2 for size in kernel]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=groups, pads=around * 2, strides=[1] * len(kernel))
    axes = [1, groups * channels, *("abc"[: len(kernel)])]
    return helper.make_model(
        helper.make_graph(
            [node],
            "convolution",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(axes))],
            [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )


def by_onnxruntime(path: Path, *inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {node.name: array for node, array in zip(session.get_inputs(), inputs)})[0]


def by_openvino(model, *inputs: np.ndarray) -> np.ndarray:
    """In float32."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
    return openvino.Core().compile_model(model, "CPU", options).create_infer_request().infer(list(inputs))[0].copy()


def channels_of(model) -> list[int]:
    """The input channels per group of each convolution, in order."""
    axes = {"Convolution": 1, "GroupConvolution": 2}
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() in axes]
    return [node.input_value(1).get_shape()[axes[node.get_type_name()]] for node in nodes]


@pytest.mark.parametrize("name", ["plain", "masked"])
@pytest.mark.parametrize("in_2d", [False, True])
def test_the_demos_model_computes_the_same(demo, name, in_2d):
    path = demo / f"{name}.onnx"
    samples = noise(9_000).astype(np.float32)[None]
    mask = (np.arange(9_000) < 7_000).astype(np.float32)[None]
    inputs = [samples, mask][: 1 + (name == "masked")]
    model = read_in_2d(openvino.Core(), path) if in_2d else read_model(path, "f32")
    before = channels_of(model)
    widen(model)
    after = channels_of(model)
    assert (before[0], after[0], before[-1], after[-1]) == (1, 1, 12, ENOUGH_CHANNELS)
    assert before[:-1] == after[:-1]
    expected, actual = by_onnxruntime(path, *inputs), by_openvino(model, *inputs)
    assert np.abs(actual - expected).max() < 5e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("channels", "kernel", "groups"), [(12, (64,), 16), (4, (16,), 1), (4, (1, 16), 3), (7, (5, 3), 2), (2, (128,), 2)]
)
def test_any_narrow_convolution_computes_the_same(tmp_path, channels, kernel, groups):
    onnx.save(convolution(channels, kernel, groups), tmp_path / "m.onnx")
    model = read_model(tmp_path / "m.onnx", "f32")
    widen(model)
    assert channels_of(model) == [ENOUGH_CHANNELS]
    samples = np.random.default_rng(1).standard_normal((1, groups * channels, *(20 for _ in kernel)))
    expected = by_onnxruntime(tmp_path / "m.onnx", samples.astype(np.float32))
    actual = by_openvino(model, samples.astype(np.float32))
    assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("channels", "kernel", "groups"), [(16, (16,), 2), (12, (3,), 1), (1, (10,), 1), (1, (64,), 8)]
)
def test_other_convolutions_stay_as_they_are(tmp_path, channels, kernel, groups):
    onnx.save(convolution(channels, kernel, groups), tmp_path / "m.onnx")
    model = read_model(tmp_path / "m.onnx", "f32")
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    widen(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before


def test_weights_that_are_an_input_stay_as_they_are(tmp_path):
    model = convolution(12, (64,), 2)
    weights = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, list(weights.dims)))
    model.graph.initializer.remove(weights)
    onnx.save(model, tmp_path / "m.onnx")
    read = read_model(tmp_path / "m.onnx", "f32")
    widen(read)
    assert channels_of(read) == [12]


def test_float32_is_not_changed(demo, monkeypatch):
    """Its kernels are right, and need no more channels."""
    monkeypatch.setattr(openvino_cpu, "widen", lambda _: pytest.fail("float32 was changed"))
    openvino_cpu.OpenVinoEngine(demo / "plain.onnx", num_threads=1).close()
