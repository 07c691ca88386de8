# SPDX-License-Identifier: Apache-2.0
"""Proves what is in an exported graph, and which models are refused before the export."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from wav2vec2_eval.engines.model_file import external_files
from wav2vec2_eval.export import graph
from wav2vec2_eval.files.names import MODEL_RECORD_KEY
from wav2vec2_eval.sources.pytorch_model import load_model

from conftest import KINDS, load_for_export, make_model, noise, write_big


def axes(model: onnx.ModelProto) -> list[tuple[str, list[str | int]]]:
    """The inputs and outputs of a model, with the name or the length of each axis."""
    return [
        (value.name, [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    ]


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def test_exported_graph(chain):
    model = onnx.load(chain / "models/wav2vec2-base-960h.onnx")
    assert axes(model) == [("input", ["batch_size", "data_len"]), ("output", ["batch_size", "frames", 32])]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 11)]
    assert not operators(model) & {"Identity", "Cast", "Dropout", "If", "Loop", "Range", "Where", "Norm", "ReduceL2"}
    used = {name for node in model.graph.node for name in node.input}
    assert not {tensor.name for tensor in model.graph.initializer} - used
    assert not any("parametrizations" in tensor.name for tensor in model.graph.initializer)
    assert [path.name for path in (chain / "models").iterdir()] == ["wav2vec2-base-960h.onnx"]
    assert set(metadata_of(chain / "models/wav2vec2-base-960h.onnx")) == {MODEL_RECORD_KEY, "sha256"}


def test_exported_masked_graph(masked_export, chain):
    """The mask adds operators that compute, and no shape that is computed from data."""
    model, plain = onnx.load(masked_export.path), onnx.load(chain / "models/wav2vec2-base-960h.onnx")
    assert axes(model) == [
        ("input", ["batch_size", "data_len"]),
        ("attention_mask", ["batch_size", "data_len"]),
        ("output", ["batch_size", "frames", 32]),
    ]
    added = operators(model) - operators(plain)
    assert added <= {"Slice", "Unsqueeze", "ReduceMean", "Mul", "Div", "Add", "Sub", "Sqrt"}
    assert "InstanceNormalization" in operators(plain) - operators(model)


@pytest.mark.parametrize("kind", KINDS)
def test_folding_the_weight_norm_changes_no_answer(tmp_path, kind):
    model = load_model(str(make_model(tmp_path, kind=kind)), attention="eager")
    waveform = torch.from_numpy(noise(9_000)[None].astype(np.float32))
    with torch.inference_mode():
        expected = model(waveform).logits
        graph.fold_weight_norm(model)
        assert (model(waveform).logits - expected).abs().max() / expected.abs().max() < 1e-6
    assert not any("parametrizations" in name for name, _ in model.named_parameters())


def with_no_ops() -> onnx.ModelProto:
    """A model of Identity, Cast to the same type, and Cast to another type and back, one after the other."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("input", "output")]
    nodes = [
        helper.make_node("Identity", ["input"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Cast", ["d"], ["e"], to=TensorProto.INT32),
        helper.make_node("Cast", ["e"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["f"], ["output"]),
    ]
    return helper.make_model(
        helper.make_graph(nodes, "no-ops", value[:1], value[1:]),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=6,
    )


def test_no_ops_are_removed_and_the_answer_stays():
    def infer(model):
        return onnxruntime.InferenceSession(model.SerializeToString()).run(None, numbers)[0].tolist()

    numbers = {"input": np.array([1.5, -2.5, 3.0], np.float32)}
    model = with_no_ops()
    graph.remove_no_ops(model)
    onnx.checker.check_model(model, full_check=True)
    # The last Identity stays, because it makes the graph's output.
    assert [node.op_type for node in model.graph.node] == ["Neg", "Cast", "Cast", "Identity"]
    assert not model.graph.value_info
    assert infer(model) == infer(with_no_ops())


@pytest.fixture
def model(model_folder):
    """The model as export_onnx.py traces it."""
    return load_for_export(model_folder)


@pytest.fixture
def above_2_gb(monkeypatch):
    write_big(monkeypatch)


METADATA = {"model_record": '{"symbols": ["<pad>", "é"]}\n', "other": ""}


def metadata_of(path):
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


@pytest.mark.parametrize("attention_mask", [False, True])
def test_above_2_gb_the_weights_are_in_one_more_file(model, tmp_path, request, attention_mask):
    """The graph and its answer are those of a smaller model."""
    (tmp_path / "small").mkdir()
    (tmp_path / "big").mkdir()
    small, big = tmp_path / "small/m.onnx", tmp_path / "big/m.onnx"
    graph.write_graph(model, small, attention_mask, METADATA)
    request.getfixturevalue("above_2_gb")
    graph.write_graph(model, big, attention_mask, METADATA)
    assert [path.name for path in small.parent.iterdir()] == ["m.onnx"]
    (weights,) = external_files(big)
    assert sorted(path.name for path in big.parent.iterdir()) == [weights, "m.onnx"]
    assert re.fullmatch(r"m-[0-9a-f]{16}\.data", weights)
    assert (big.parent / weights).stat().st_mode == big.stat().st_mode
    assert max(len(tensor.raw_data) for tensor in onnx.load(big, load_external_data=False).graph.initializer) < 1024
    assert list(onnx.load(big).graph.node) == list(onnx.load(small).graph.node)
    assert metadata_of(big) == metadata_of(small) == METADATA
    inputs = {name: noise(9_000)[None].astype(np.float32) for name in graph.input_names(attention_mask)}
    one, other = (onnxruntime.InferenceSession(path).run(None, inputs)[0] for path in (small, big))
    assert one.tobytes() == other.tobytes()


def test_the_name_of_the_weights_follows_from_the_model(model, tmp_path, above_2_gb):
    """The same model gets the same name again, other weights get another."""
    names = []
    for change in (0, 0, 1e-3):
        model.lm_head.bias.add_(change)
        folder = tmp_path / str(len(names))
        folder.mkdir()
        graph.write_graph(model, folder / "m.onnx", attention_mask=False)
        names += external_files(folder / "m.onnx")
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("metadata", [{}, METADATA])
def test_metadata_are_written(model, tmp_path, metadata):
    graph.write_graph(model, tmp_path / "m.onnx", False, metadata)
    assert metadata_of(tmp_path / "m.onnx") == metadata


@pytest.mark.parametrize(("attention_mask", "names"), [(False, ["input"]), (True, ["input", "attention_mask"])])
def test_input_names(attention_mask, names):
    assert graph.input_names(attention_mask) == names
