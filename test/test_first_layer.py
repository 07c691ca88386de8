# SPDX-License-Identifier: Apache-2.0
"""Proves that the closed form of the first GroupNorm gives the same answers, also rounded, and leaves other graphs."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from float16 import round_graph
from onnx import TensorProto, helper, numpy_helper, version_converter
from peers import demo_waveforms
from transformers import Wav2Vec2ForCTC

from wav2vec2_eval.engines.first_layer import statistics, use_closed_form
from wav2vec2_eval.engines.openvino_graph import to_2d
from wav2vec2_eval.export.graph import fold_weight_norm, write_graph
from wav2vec2_eval.sources.pytorch_model import load_model
from wav2vec2_eval.speech.padding import masked_input

from conftest import DEMO, make_model, noise, small_graph

MASKED = pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])


def written(model, path: Path, masked: bool) -> onnx.ModelProto:
    write_graph(model, path, masked)
    return onnx.load(path)


@pytest.fixture(scope="module")
def trained():
    model = load_model(str(DEMO / "model"), attention="eager")
    fold_weight_norm(model)
    return model


@pytest.fixture(scope="module")
def graphs(trained, tmp_path_factory):
    """The graphs of the demo's trained model: masked or not -> graph. They are not to be changed."""
    folder = tmp_path_factory.mktemp("graphs")
    return {masked: written(trained, folder / f"{masked}.onnx", masked) for masked in (False, True)}


def rewritten(model: onnx.ModelProto, dimensions: int = 1) -> onnx.ModelProto:
    model = copy.deepcopy(model)
    if dimensions == 2:
        to_2d(model)
    use_closed_form(model)
    onnx.checker.check_model(model, full_check=True)
    assert statistics(model)
    return model


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def infer(opened: onnxruntime.InferenceSession, *inputs: np.ndarray) -> np.ndarray:
    """(B, F, V) logits. A plain model ignores the mask."""
    return opened.run(None, dict(zip([each.name for each in opened.get_inputs()], inputs)))[0]


def exact(model, waveform: np.ndarray) -> np.ndarray:
    """(B, F, V) logits of transformers in float64."""
    with torch.inference_mode():
        return copy.deepcopy(model).double()(torch.from_numpy(waveform).double()).logits.numpy()


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def speech(count: int) -> list[np.ndarray]:
    """The shortest utterances of the demo, (1, T) float32 each."""
    return [waveform[None] for waveform in sorted(demo_waveforms(), key=len)[:count]]


def tone(num_samples: int) -> np.ndarray:
    return np.sin(0.3 * np.arange(num_samples))


SIGNALS = {
    "noise": noise,
    "quiet noise": lambda num_samples: 1e-3 * noise(num_samples),
    "noise with an offset": lambda num_samples: 0.5 + noise(num_samples),
    "noise with a large offset": lambda num_samples: 3 + noise(num_samples),
    "tone": tone,
    "tone and silence": lambda num_samples: tone(num_samples) * (np.arange(num_samples) < num_samples / 2),
    "silence": np.zeros,
}


@MASKED
@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_same_answers(graphs, trained, masked, dimensions):
    """On every signal and length, a single frame and lengths between two strides included, and in a batch."""
    before, after = session(graphs[masked]), session(rewritten(graphs[masked], dimensions))
    for num_samples in (400, 401, 9_003, 33_361):
        for name, signal in SIGNALS.items():
            waveform = signal(num_samples)[None].astype(np.float32)
            mask = np.ones_like(waveform)
            expected = exact(trained, waveform)
            own = error(infer(before, waveform, mask), expected)
            most = 2 * own + (5e-5 if "large" in name else 3e-6)
            assert error(infer(after, waveform, mask), expected) < most, (name, num_samples)
    rows = np.concatenate([signal(9_003)[None] for signal in SIGNALS.values()]).astype(np.float32)
    batch = infer(after, rows, np.ones_like(rows))
    for name, row, logits in zip(SIGNALS, rows, batch):
        alone = infer(after, row[None], np.ones((1, 9_003), np.float32))
        assert error(logits[None], alone) < (5e-5 if "large" in name else 5e-6), name


@MASKED
def test_speech(graphs, trained, masked):
    before, after = session(graphs[masked]), session(rewritten(graphs[masked]))
    for waveform in speech(3):
        inputs = masked_input(waveform[0], -(-waveform.shape[1] // 10_000) * 10_000) if masked else (waveform,)
        expected = exact(trained, waveform)
        frames = expected.shape[1]
        assert error(infer(after, *inputs)[:, :frames], expected) < 3e-6
        assert error(infer(after, *inputs), infer(before, *inputs)) < 3e-6  # the padding frames are the blank in both


@pytest.mark.parametrize("num_samples", [400, 5_000, 33_361])
@pytest.mark.parametrize("padding", [0, 1, 4_999, 50_000])
def test_padding_and_what_is_in_it_change_nothing(graphs, trained, num_samples, padding):
    after = session(rewritten(graphs[True]))
    waveform = noise(num_samples).astype(np.float32)
    expected = exact(trained, waveform[None])
    samples, mask = masked_input(waveform, num_samples + padding)
    for garbage in (0, 5):
        samples[:, num_samples:] = garbage * noise(padding, seed=1)
        logits = infer(after, samples, mask)
        assert error(logits[:, : expected.shape[1]], expected) < 5e-6
        assert np.isfinite(logits).all() and (logits[:, expected.shape[1] :].argmax(-1) == 0).all()


def test_a_batch_of_masked_utterances_of_different_lengths(graphs):
    after = session(rewritten(graphs[True], 2))
    lengths = (20_000, 400, 12_345)
    inputs = [masked_input(noise(length, length).astype(np.float32), 20_000) for length in lengths]
    batch = infer(after, *(np.concatenate(arrays) for arrays in zip(*inputs)))
    for each, logits in zip(inputs, batch):
        assert error(logits[None], infer(after, *each)) < 5e-6


@MASKED
@pytest.mark.parametrize("to", [TensorProto.BFLOAT16, TensorProto.FLOAT16], ids=["bfloat16", "float16"])
def test_rounded_after_every_node_speech_is_as_exact_as_before(graphs, trained, masked, to):
    """Without the cosine transform, the variances of speech would be wrong or negative in bfloat16."""
    errors = []
    for model in (graphs[masked], rewritten(graphs[masked])):
        rounded = version_converter.convert_version(model, 13)  # the first opset with bfloat16
        round_graph(rounded, to)
        opened, found = session(rounded), []
        for waveform in speech(4):
            expected = exact(trained, waveform)
            actual = infer(opened, waveform, np.ones_like(waveform))
            found.append(np.abs(actual - expected).mean() / np.abs(expected).max())
        errors.append(np.mean(found))
    assert errors[1] < 1.15 * errors[0]  # the same, but for chance


@MASKED
@pytest.mark.parametrize(
    ("width", "stride", "bias"),
    [(10, 5, True), (8, 4, False), (7, 3, True), (5, 5, False), (3, 4, True), (1, 1, False), (16, 5, False)],
)
def test_other_windows(tmp_path, masked, width, stride, bias):
    options = {"conv_kernel": (width, *(3,) * 6), "conv_stride": (stride, *(2,) * 6), "conv_bias": bias}
    folder = make_model(tmp_path / "model", **options)
    model = Wav2Vec2ForCTC.from_pretrained(folder, attn_implementation="eager").eval()  # the suite refuses its frames
    if bias:
        torch.nn.init.normal_(model.wav2vec2.feature_extractor.conv_layers[0].conv.bias)
    fold_weight_norm(model)
    graph = written(model, tmp_path / "m.onnx", masked)
    for dimensions in (1, 2):
        after = session(rewritten(graph, dimensions))
        for num_samples in (5_000, 5_001, 5_003):
            waveform = noise(num_samples)[None].astype(np.float32)
            actual = infer(after, waveform, np.ones_like(waveform))
            assert error(actual, exact(model, waveform)) < 5e-6


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "unispeech-sat"])
def test_other_models_with_a_group_norm(tmp_path, kind):
    model = load_model(str(make_model(tmp_path / "model", kind=kind)), attention="eager")
    fold_weight_norm(model)
    graph = written(model, tmp_path / "m.onnx", False)
    waveform = noise(9_003)[None].astype(np.float32)
    assert error(infer(session(rewritten(graph)), waveform), infer(session(graph), waveform)) < 5e-6


@MASKED
def test_nothing_is_left_that_nobody_reads_and_the_names_are_unique(graphs, masked):
    graph = rewritten(graphs[masked]).graph
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    assert all(not used.isdisjoint(node.output) for node in graph.node)
    assert {tensor.name for tensor in graph.initializer} <= used
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert "InstanceNormalization" not in {node.op_type for node in graph.node}


def test_only_one_pass_over_the_large_tensor_is_left(graphs):
    """No mean is taken of it, and what is read of it is read once."""
    for masked in (False, True):
        graph = rewritten(graphs[masked], 2).graph
        large = next(node for node in graph.node if node.op_type == "Conv").output[0]
        assert [node.op_type for node in graph.node if large in node.input] == ["Sub"]


def unchanged(model: onnx.ModelProto) -> bool:
    before = model.SerializeToString(deterministic=True)
    use_closed_form(model)
    return model.SerializeToString(deterministic=True) == before and not statistics(model)


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def renumber(model):
    model.opset_import[0].version = 13


def add_a_domain(model):
    model.opset_import.append(helper.make_opsetid("other", 1))


def pad_the_convolution(model):
    next(each for each in nodes(model, "Conv")[0].attribute if each.name == "pads").ints[:] = [1, 1]


def dilate_the_convolution(model):
    next(each for each in nodes(model, "Conv")[0].attribute if each.name == "dilations").ints[:] = [2]


def leave_the_pads_out(model):
    convolution = nodes(model, "Conv")[0]
    convolution.attribute.remove(next(each for each in convolution.attribute if each.name == "pads"))


def compute_the_weights(model):
    nodes(model, "Conv")[0].input[1] = model.graph.input[0].name


def set_weights(model, name: str, change) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def two_channels(model):
    set_weights(model, nodes(model, "Conv")[0].input[1], lambda weights: weights.repeat(2, 1))


def one_gamma(model):
    norm = nodes(model, "InstanceNormalization") or nodes(model, "Sqrt")
    after = list(model.graph.node).index(norm[0])
    scale = next(node for node in list(model.graph.node)[after:] if node.op_type in ("Mul", "Div"))
    names = {tensor.name for tensor in model.graph.initializer}
    set_weights(model, next(name for name in scale.input if name in names), lambda gamma: gamma[:1])


OF_BOTH = [
    renumber,
    add_a_domain,
    pad_the_convolution,
    dilate_the_convolution,
    leave_the_pads_out,
    compute_the_weights,
    two_channels,
    one_gamma,
]


@MASKED
@pytest.mark.parametrize("change", OF_BOTH)
def test_other_graphs_stay_as_they_are(graphs, masked, change):
    model = copy.deepcopy(graphs[masked])
    change(model)
    assert unchanged(model)


def constant_of(model, name: str) -> onnx.AttributeProto:
    return next(node for node in nodes(model, "Constant") if node.output[0] == name).attribute[0]


def fewer_groups(model):
    constant = constant_of(model, nodes(model, "Reshape")[0].input[1])
    constant.t.CopyFrom(numpy_helper.from_array(np.array([0, 2, -1])))


def other_scales(model):
    constant = constant_of(model, nodes(model, "InstanceNormalization")[0].input[1])
    constant.t.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(constant.t)))


def other_biases(model):
    constant = constant_of(model, nodes(model, "InstanceNormalization")[0].input[2])
    constant.t.CopyFrom(numpy_helper.from_array(1 + numpy_helper.to_array(constant.t)))


def other_operator(model):
    nodes(model, "InstanceNormalization")[0].op_type = "NotANorm"


def other_axis(model):
    mean = nodes(model, "ReduceMean")[0]
    next(each for each in mean.attribute if each.name == "axes").ints[:] = [1]


def another_mask(model):
    nodes(model, "Mul")[1].input[1] = nodes(model, "Unsqueeze")[0].output[0]


@pytest.mark.parametrize(
    ("masked", "change"),
    [
        (False, fewer_groups),
        (False, other_scales),
        (False, other_biases),
        (False, other_operator),
        (True, other_axis),
        (True, another_mask),
    ],
)
def test_other_norms_stay_as_they_are(graphs, masked, change):
    model = copy.deepcopy(graphs[masked])
    change(model)
    assert unchanged(model)


@MASKED
@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_second_time_changes_nothing(graphs, masked, dimensions):
    model = rewritten(graphs[masked], dimensions)
    once = model.SerializeToString(deterministic=True)
    use_closed_form(model)
    assert model.SerializeToString(deterministic=True) == once


@MASKED
def test_models_with_layer_norm_stay_as_they_are(tmp_path, masked):
    options = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    model = load_model(str(make_model(tmp_path / "model", **options)), attention="eager")
    fold_weight_norm(model)
    assert unchanged(written(model, tmp_path / "m.onnx", masked))


@MASKED
def test_graphs_of_others_stay_as_they_are(masked):
    assert unchanged(small_graph(masked))


def test_a_graph_without_convolution_or_nodes_stays_as_it_is():
    empty = helper.make_model(helper.make_graph([], "empty", [], []), opset_imports=[helper.make_opsetid("", 11)])
    assert unchanged(empty)
