# SPDX-License-Identifier: Apache-2.0
"""The feature extractor in two dimensions, for bfloat16 and int8 in OpenVINO.

In one dimension OpenVINO has no GroupNorm for the channels-last layout of its convolutions, and reorders its largest
tensor, 512 channels at 3200 Hz, before and behind it. In two it has one that sums less exactly: below float32 that does
not show. Times and errors are in test/bench/README.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def to_2d(model: onnx.ModelProto) -> None:
    """Give the feature extractor of an export (opset 11, plain or masked) a second dimension, in place.

    A (B, C, P) tensor becomes (B, C, 1, P), and a convolution of width k one of 1 x k: the same numbers in another
    shape. Other graphs stay as they are: those of models with LayerNorms, which transpose anyway, and what is 2D.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    end = next((node for node in graph.node if node.op_type == "Transpose"), None)  # (B, C, F) -> (B, F, C)
    nodes = _ancestors(graph, end) if end else []
    if not _is_feature_extractor(nodes) or [opset.version for opset in model.opset_import] != [11]:
        return

    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in nodes:
        if node.op_type == "Unsqueeze":  # (B, T) -> (B, 1, 1, T)
            _set(node, axes=[1, 2])
        elif node.op_type == "Conv":
            _set(node, kernel_shape=[1, *_ints(node, "kernel_shape")], strides=[1, *_ints(node, "strides")])
            _set(node, dilations=[1, *_ints(node, "dilations")], pads=[0, 0, 0, 0])
        elif node.op_type == "Reshape":  # to and from the groups of GroupNorm, which are the channels: changes nothing
            _bypass(graph, node)
        for name in node.input:
            if name in weights and len(weights[name].dims) > 1:  # (C, C', k) or (C, 1)
                array = numpy_helper.to_array(weights[name])
                weights[name].CopyFrom(numpy_helper.from_array(array[..., None, :], name))
    squeeze = helper.make_node("Squeeze", [end.input[0]], [f"{end.input[0]}_squeezed"], axes=[2])
    end.input[0] = squeeze.output[0]
    graph.node.insert(list(graph.node).index(end), squeeze)
    _remove_unused(graph)


def _is_feature_extractor(nodes: list[onnx.NodeProto]) -> bool:
    """Whether all convolutions are of one dimension and without padding, and all reshapes around a GroupNorm."""
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    norms = [node for node in nodes if node.op_type == "InstanceNormalization"]
    around = {name for node in norms for name in (*node.input, *node.output)}
    return (
        len(convolutions) > 1
        and all({"kernel_shape", "strides", "dilations", "pads"} <= _names(node) for node in convolutions)
        and all(len(_ints(node, "strides")) == 1 and not any(_ints(node, "pads")) for node in convolutions)
        and all(not around.isdisjoint((*node.input, *node.output)) for node in nodes if node.op_type == "Reshape")
    )


def _ancestors(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """All nodes whose outputs `node` depends on."""
    producers = {output: producer for producer in graph.node for output in producer.output}
    found = {}
    waiting = [node]
    for node in waiting:
        for name in node.input:
            if name in producers and name not in found:
                found[name] = producers[name]
                waiting.append(producers[name])
    return list(found.values())


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    return next(list(attribute.ints) for attribute in node.attribute if attribute.name == name)


def _names(node: onnx.NodeProto) -> set[str]:
    return {attribute.name for attribute in node.attribute}


def _set(node: onnx.NodeProto, **attributes: list[int]) -> None:
    for attribute in node.attribute:
        if attribute.name in attributes:
            attribute.ints[:] = attributes[attribute.name]


def _bypass(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Let those who read the node's output read its first input."""
    for consumer in graph.node:
        for position, name in enumerate(consumer.input):
            if name == node.output[0]:
                consumer.input[position] = node.input[0]
    graph.node.remove(node)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes that nobody reads, of which onnxruntime would complain."""
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if used.isdisjoint(node.output)]:
        graph.node.remove(node)
