# SPDX-License-Identifier: Apache-2.0
"""Proves that to_2d changes the feature extractor of an export to two dimensions, and leaves other graphs alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from wav2vec2_eval.engines.openvino_graph import to_2d

from conftest import make_model, noise, run_ok


@pytest.fixture(params=["plain", "masked"])
def export(request, chain, masked_export):
    return chain / "models/wav2vec2-base-960h.onnx" if request.param == "plain" else masked_export.path


def infer(model: onnx.ModelProto, num_samples: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    waveform = noise(num_samples).astype(np.float32)[None]
    mask = np.ones_like(waveform)
    mask[:, 3 * num_samples // 4 :] = 0
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, (waveform, mask))))[0]


def dimensions(model: onnx.ModelProto) -> list[int]:
    """The number of dimensions of each convolution."""
    attributes = [
        {each.name: each.ints for each in node.attribute} for node in model.graph.node if node.op_type == "Conv"
    ]
    return [len(each["strides"]) for each in attributes]


def test_the_same_numbers_in_2d(export):
    model = onnx.load(export)
    expected = {num_samples: infer(model, num_samples) for num_samples in (720, 33_361)}
    to_2d(model)
    onnx.checker.check_model(model, full_check=True)
    assert dimensions(model) == [2] * 7 + [1]  # the last is the positional one
    for num_samples, logits in expected.items():
        np.testing.assert_allclose(infer(model, num_samples), logits, atol=2e-5 * np.abs(logits).max())


def test_weights_that_two_convolutions_share(export):
    """PyTorch's exporter writes equal weights once."""
    model = onnx.load(export)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    one, other, *_ = (node for node in convolutions[1:] if sizes[node.input[1]] == sizes[convolutions[1].input[1]])
    other.input[1] = one.input[1]
    expected = infer(model, 33_361)
    to_2d(model)
    np.testing.assert_allclose(infer(model, 33_361), expected, atol=2e-5 * np.abs(expected).max())


def test_nothing_is_left_that_nobody_reads(export):
    model = onnx.load(export)
    to_2d(model)
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    assert all(not used.isdisjoint(node.output) for node in model.graph.node)


def test_what_a_branch_reads_is_kept(export):
    """An If reads values of the graph around it without naming them as inputs."""
    model = onnx.load(export)
    graph = model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
    graph.node.append(onnx.helper.make_node("Neg", ["one"], ["minus_one"]))
    result = onnx.helper.make_tensor_value_info("chosen", onnx.TensorProto.FLOAT, [1])
    branch = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["minus_one"], ["chosen"])], "branch", [], [result])
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    graph.node.append(onnx.helper.make_node("If", ["always"], ["extra"], then_branch=branch, else_branch=branch))
    graph.output.append(onnx.helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, [1]))
    expected = infer(model, 720)
    to_2d(model)
    assert {"minus_one", "extra"} <= {name for node in graph.node for name in node.output}
    np.testing.assert_allclose(infer(model, 720), expected, atol=2e-5 * np.abs(expected).max())


def test_a_second_time_changes_nothing(export):
    model = onnx.load(export)
    to_2d(model)
    once = model.SerializeToString(deterministic=True)
    to_2d(model)
    assert model.SerializeToString(deterministic=True) == once


def pad_a_convolution(model):
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    next(each for each in convolution.attribute if each.name == "pads").ints[:] = [1, 1]


def leave_an_attribute_out(model):
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    convolution.attribute.remove(next(each for each in convolution.attribute if each.name == "dilations"))


def reshape_elsewhere(model):
    node = next(node for node in model.graph.node if node.op_type == "InstanceNormalization")
    node.op_type = "NotANorm"


def renumber(model):
    model.opset_import[0].version = 13


@pytest.mark.parametrize("change", [pad_a_convolution, leave_an_attribute_out, reshape_elsewhere, renumber])
def test_other_graphs_stay_as_they_are(chain, change):
    model = onnx.load(chain / "models/wav2vec2-base-960h.onnx")
    change(model)
    before = model.SerializeToString(deterministic=True)
    to_2d(model)
    assert model.SerializeToString(deterministic=True) == before


def test_models_with_layer_norm_stay_as_they_are(tmp_path):
    folder = make_model(tmp_path / "model", feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    run_ok("export_onnx.py", "--model_save_dir=.", f"--model_name_or_path={folder}", cwd=tmp_path)
    model = onnx.load(tmp_path / "wav2vec2-base-960h.onnx")
    before = model.SerializeToString(deterministic=True)
    to_2d(model)
    assert model.SerializeToString(deterministic=True) == before
