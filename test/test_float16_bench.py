# SPDX-License-Identifier: Apache-2.0
"""Proves that test/bench/float16.py rounds where PyTorch's own float16 rounds, and counts what that changes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from float16 import (
    FLOAT32,
    MODELS,
    NODES,
    OPERATORS,
    PEER,
    Cost,
    RoundToFloat16,
    cost,
    load,
    round_graph,
    total_cost,
    ways,
)
from onnx import TensorProto, helper, numpy_helper
from peers import demo_waveforms, gear_input

from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.speech.audio import frame_count

from conftest import DEMO

# Values of float16, as all that an operator reads.
VALUES = torch.tensor([[0.1, -3.7, 0.002, 1.0], [250.0, -0.4, 7.3, 0.9]]).half().float()


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x / 3,
        lambda x: x.clone().add_(0.01),
        lambda x: torch.mul(x, 0.7, out=torch.empty(2, 4)),
        lambda x: (x / 3).transpose(0, 1).contiguous(),
        lambda x: (x / 3)[:1].expand(5, 4),
        lambda x: torch.nn.functional.softmax(x, -1),
        torch.nn.functional.gelu,
        lambda x: torch.nn.functional.layer_norm(x, (4,)),
        lambda x: x @ x.T,
        lambda x: torch.nn.functional.conv1d(x[None], x[None, :, :2]),
    ],
    ids=["scalar", "in place", "out", "view", "expanded", "softmax", "gelu", "layer norm", "product", "convolution"],
)
def test_one_operator_is_rounded_once(compute):
    exact = compute(VALUES)
    with RoundToFloat16():
        rounded = compute(VALUES)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, exact.half().float())
    assert not torch.equal(rounded, exact), "nothing to round"


def test_each_operator_is_rounded():
    """2048 is the first whole number of float16 whose successor is none."""
    with RoundToFloat16():
        assert (torch.tensor(2048.0) + 1 + 1).item() == 2048
        assert torch.equal(torch.arange(2047, 2051) + 1, torch.arange(2048, 2052))  # whole numbers stay exact


def test_large_values_become_infinite():
    with RoundToFloat16():
        assert (torch.tensor([65504.0, -65504.0]) * 2).tolist() == [math.inf, -math.inf]


def test_each_node_of_a_graph_is_rounded(tmp_path):
    """(x + 1/3) * 2 with the weight, the sum, and the product rounded."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n"])
    third = numpy_helper.from_array(np.array(1 / 3, np.float32), "third")
    two = numpy_helper.from_array(np.array(2, np.float32))
    nodes = [
        helper.make_node("Add", ["x", "third"], ["sum"]),
        helper.make_node("Constant", [], ["two"], value=two),
        helper.make_node("Mul", ["sum", "two"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "small", [value], [output], [third])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    round_graph(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "small.onnx")
    inputs = np.array([[0, 1, 2047, 65504]], np.float32)
    with open_engine(tmp_path / "small.onnx", num_threads=1) as engine:
        (result,) = engine.stream([[inputs]])
    with np.errstate(over="ignore"):
        expected = (inputs.astype(np.float16) + np.float16(1 / 3)) * np.float16(2)
    assert np.array_equal(result.outputs[0], expected.astype(np.float32))
    assert expected[0, 2] == 4094 and np.isinf(expected[0, 3])


@pytest.mark.parametrize("name", MODELS)
def test_the_simulation_agrees_with_pytorchs_float16(name, tmp_path):
    """The errors of float16 are of one size, whichever way they are computed; nothing else changes."""
    waveform = min(demo_waveforms(), key=len)
    inputs, frames = gear_input(waveform)[: 1 + MODELS[name]], frame_count(len(waveform))
    with ways(load(str(DEMO / "model")), MODELS[name], tmp_path / "demo.onnx") as infer_by:
        answers = {way: infer(inputs) for way, infer in infer_by.items()}
    expected = answers.pop(FLOAT32)
    costs = {way: cost(logits, expected, frames) for way, logits in answers.items()}
    peer = costs[PEER]
    assert 1e-5 < peer.mean_error < peer.largest_error < 5e-3
    for way, most in ((OPERATORS, 1.5), (NODES, 3)):  # a LayerNorm is nine nodes, and so rounded nine times
        found = costs[way]
        assert peer.mean_error / 1.5 < found.mean_error < most * peer.mean_error, way
        assert peer.largest_error / 3 < found.largest_error < 2 * most * peer.largest_error, way
    assert {(each.changed, each.not_finite) for each in costs.values()} == {(0, 0)}


LOGITS = np.array([[4, 0], [0, 2], [1, 0]], np.float32)  # the last frame is padding


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ([[0, 0], [0, 0], [0, 0]], Cost(0, 0, 0, 2, 0)),
        ([[1, 0], [0, 0], [0, 0]], Cost(0.25, 0.0625, 0, 2, 0)),
        ([[0, 0], [3, 0], [0, 9]], Cost(0.75, 0.1875, 1, 2, 0)),
        ([[0, 0], [0, 0], [math.inf, math.nan]], Cost(0, 0, 0, 2, 2)),
        ([[0, 0], [0, math.inf], [0, 0]], Cost(math.inf, math.inf, 0, 2, 1)),
    ],
)
def test_cost(change, expected):
    assert cost(LOGITS + np.array(change, np.float32), LOGITS, 2) == expected


def test_nan_is_not_hidden_by_other_utterances():
    good, bad = Cost(0.1, 0.05, 1, 30, 0), Cost(math.nan, math.nan, 2, 10, 7)
    assert total_cost([good, good]) == Cost(0.1, 0.05, 2, 60, 0)
    for both in (total_cost([good, bad]), total_cost([bad, good])):
        assert math.isnan(both.largest_error) and math.isnan(both.mean_error)
        assert both[2:] == (3, 40, 7)
