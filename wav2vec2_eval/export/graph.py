# SPDX-License-Identifier: Apache-2.0
"""The ONNX graph of a model: traced from PyTorch, without the parts that inference does not need."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
import torch
from onnx.external_data_helper import load_external_data_for_model
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from ..engines.model_file import external_files
from ..files.names import ATTENTION_MASK, INPUT, OUTPUT
from .masked import MaskedWav2Vec2
from .new_model import weights_beside
from .wavlm import exportable

OPSET = 11  # the oldest that ATC documents for every CANN version in use
TRACED_SAMPLES = 40_000
NO_METADATA: Mapping[str, str] = MappingProxyType({})


def fold_weight_norm(model: PreTrainedModel) -> None:
    """Replace the positional convolution's weight norm, which only training needs, by the resulting weight.

    (Data2Vec, and HuBERT with a BatchNorm there, have no weight norm.)
    """
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")


def float32_bytes(model: PreTrainedModel) -> int:
    """What the weights of the exported model take, in bytes."""
    return 4 * sum(weight.numel() for weight in model.parameters())


class _Logits(torch.nn.Module):
    """The model without its mask: (B, T) waveforms -> (B, F, V) logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(waveform).logits
        return logits


def exported_module(model: PreTrainedModel, attention_mask: bool) -> torch.nn.Module:
    """What `write_graph` traces: (B, T) waveforms, and (B, T) masks with `attention_mask` -> (B, F, V) logits."""
    return MaskedWav2Vec2(model) if attention_mask else _Logits(model)


def input_names(attention_mask: bool) -> list[str]:
    """The inputs of an exported model, in order."""
    return [INPUT, ATTENTION_MASK] if attention_mask else [INPUT]


def write_graph(
    model: PreTrainedModel, path: Path, attention_mask: bool, metadata: Mapping[str, str] = NO_METADATA
) -> None:
    """Write the graph of `model` to `path`: inputs (batch_size, data_len) -> logits (batch_size, frames, symbols).

    A model above 2 GB gets its weights in one more file, in the same folder, which is to have no other files.
    """
    with exportable(model):
        trace(exported_module(model, attention_mask), input_names(attention_mask), path)
    graph = onnx.load(path, load_external_data=False)
    remove_no_ops(graph)
    onnx.helper.set_model_props(graph, dict(metadata))
    _save(graph, path)
    onnx.checker.check_model(path, full_check=True)


def _save(graph: onnx.ModelProto, path: Path) -> None:
    """Write `graph` over the file from which it was loaded, with all its external data in one file."""
    traced = external_files(path)
    if not traced:
        onnx.save(graph, path)
        return
    weights = weights_beside(path)
    load_external_data_for_model(graph, str(path.parent))
    for name in traced:
        (path.parent / name).unlink()
    onnx.save(graph, path, save_as_external_data=True, location=weights)
    (path.parent / weights).chmod(path.stat().st_mode)  # onnx lets nobody but the owner read it


def trace(module: torch.nn.Module, names: list[str], path: Path) -> None:
    """Write the module's graph to `path`. Above 2 GB, PyTorch writes a file for each weight, too, beside `path`."""
    with warnings.catch_warnings():
        # The exporter that still writes opset 11 warns that it is deprecated, and the tracer of each shape check.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),  # the exporter restores every submodule to the wrapper's mode
            tuple(torch.ones(1, TRACED_SAMPLES) for _ in names),
            str(path),  # of a Path, PyTorch would not take the folder
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=[OUTPUT],
            dynamic_axes={
                **{name: {0: "batch_size", 1: "data_len"} for name in names},
                OUTPUT: {0: "batch_size", 1: "frames"},
            },
        )


def remove_no_ops(model: onnx.ModelProto) -> None:
    """Remove nodes whose output equals their input: Identity, and Cast to the type that the input has already."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in inferred}
    source: dict[str, str] = {}  # a no-op's output -> its input
    for node in list(graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)
        is_no_op = node.op_type == "Identity" or (
            node.op_type == "Cast" and types.get(node.input[0]) == node.attribute[0].i
        )
        if is_no_op and node.output[0] not in {output.name for output in graph.output}:
            source[node.output[0]] = node.input[0]
            graph.node.remove(node)
    del graph.value_info[:]
