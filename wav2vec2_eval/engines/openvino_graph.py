# SPDX-License-Identifier: Apache-2.0
"""The feature extractor in two dimensions, for bfloat16 and int8 in OpenVINO.

OpenVINO's 1-D GroupNorm does not support the channels-last layout of the convolutions around it. So OpenVINO reorders
its largest tensor, 512 channels at 3200 Hz, before and after the GroupNorm. The 2-D kernel needs no reordering. It
sums less exactly, which does not matter below float32. Times and errors are in test/bench/README.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def to_2d(model: onnx.ModelProto) -> None:
    """Give the feature extractor of an export (opset 11, plain or masked) a second dimension, in place.

    A (B, C, P) tensor becomes (B, C, 1, P), and a convolution of width k becomes 1 x k: the same numbers in another
    shape. Other graphs are left alone: models with LayerNorms, which transpose anyway, and graphs that are 2-D already.
    """
    from onnx import helper

    graph = model.graph
    end = next((node for node in graph.node if node.op_type == "Transpose"), None)  # (B, C, F) -> (B, F, C)
    if end is None or [opset.version for opset in model.opset_import] != [11]:
        return
    nodes = _ancestors(graph, end)
    if not _is_feature_extractor(nodes):
        return

    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in nodes:
        if node.op_type == "Unsqueeze":  # (B, T) -> (B, 1, 1, T)
            _set(node, axes=[1, 2])
        elif node.op_type == "Conv":
            _set(node, kernel_shape=[1, *ints(node, "kernel_shape")], strides=[1, *ints(node, "strides")])
            _set(node, dilations=[1, *ints(node, "dilations")], pads=[0, 0, 0, 0])
        elif node.op_type == "Reshape":  # to and from GroupNorm's groups; each channel is a group, so nothing changes
            _bypass(graph, node)
        for name in node.input:
            tensor = weights.pop(name, None)  # once, also if several nodes read it
            if tensor is not None and len(tensor.dims) > 1:  # (C, C', k) or (C, 1); the data stay as they are
                tensor.dims.insert(len(tensor.dims) - 1, 1)
    squeeze = helper.make_node("Squeeze", [end.input[0]], [f"{end.input[0]}_squeezed"], axes=[2])
    end.input[0] = squeeze.output[0]
    graph.node.insert(list(graph.node).index(end), squeeze)
    remove_unread(graph)


def _is_feature_extractor(nodes: list[onnx.NodeProto]) -> bool:
    """Whether all convolutions are 1-D and without padding, and all reshapes belong to a GroupNorm."""
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    norms = [node for node in nodes if node.op_type == "InstanceNormalization"]
    around = {name for node in norms for name in (*node.input, *node.output)}
    return (
        len(convolutions) > 1
        and all({"kernel_shape", "strides", "dilations", "pads"} <= _names(node) for node in convolutions)
        and all(len(ints(node, "strides")) == 1 and not any(ints(node, "pads")) for node in convolutions)
        and all(not around.isdisjoint((*node.input, *node.output)) for node in nodes if node.op_type == "Reshape")
    )


def _ancestors(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """All nodes that `node` depends on."""
    producers = {output: producer for producer in graph.node for output in producer.output}
    found = {}
    waiting = [node]
    for node in waiting:
        for name in node.input:
            if name in producers and name not in found:
                found[name] = producers[name]
                waiting.append(producers[name])
    return list(found.values())


def ints(node: onnx.NodeProto, name: str) -> list[int]:
    """An attribute of a node; empty if the node does not have it."""
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


def _names(node: onnx.NodeProto) -> set[str]:
    return {attribute.name for attribute in node.attribute}


def _set(node: onnx.NodeProto, **attributes: list[int]) -> None:
    for attribute in node.attribute:
        if attribute.name in attributes:
            attribute.ints[:] = attributes[attribute.name]


def _bypass(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Make every reader of the node's output read the node's first input instead, and remove the node."""
    for consumer in graph.node:
        for position, name in enumerate(consumer.input):
            if name == node.output[0]:
                consumer.input[position] = node.input[0]
    graph.node.remove(node)


def remove_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants whose values are not read; onnxruntime would warn about them."""
    readers = Counter(_reads(graph))
    for node in reversed(list(graph.node)):  # a node comes after those that it reads
        if not any(readers[name] for name in node.output):
            readers.subtract(node.input)
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if not readers[tensor.name]]:
        graph.initializer.remove(tensor)


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of values wherever they are read, by the branches of an If, too."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _reads(inner)
