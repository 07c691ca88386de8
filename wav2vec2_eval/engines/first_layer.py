# SPDX-License-Identifier: Apache-2.0
"""The first GroupNorm of an exported model, without its passes over the largest tensor.

Convolution 0 writes the largest tensor of the model, 512 channels at 3200 Hz. GroupNorm, with one group per channel,
needs the mean and the variance of each channel over time: several passes over that tensor. But the convolution is
linear. Let x be the k samples that a position reads, and w the weights of a channel. Over all positions,

    mean of the channel = w . mean(x) + bias          variance of the channel = w' covariance(x) w

So both follow from k means and a k x k covariance, whatever the number of channels. What remains for each element of
the large tensor is (y - mean) * scale + bias, one pass, which engines join with the activation after it.

Two choices keep this exact and fast below float32:

- The k samples of a position are strongly correlated, so the sum w' covariance(x) w would cancel. In bfloat16 it would
  become wrong or negative on speech. In the basis of the discrete cosine transform the samples are nearly uncorrelated,
  and little cancels. The change of basis costs nothing: a convolution with the cosines as weights.
- Means and variances of the channels come out of convolutions with a window of one position. So they have the layout
  of the large tensor, and OpenVINO has no reason to reorder it.

In a masked model the positions that are not real get other values than before. No real position reads these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from .openvino_graph import ints, remove_unread

if TYPE_CHECKING:
    import onnx

# The operators of a GroupNorm as PyTorch exports them, and of the one in export/masked.py. A text is the name of a
# value: the same value wherever the text is the same.
Pattern = Union[str, tuple["Pattern", ...]]

_ALL_CHANNELS: Pattern = ("InstanceNormalization", "y", "ones", "zeros")
_GROUPS: Pattern = ("Reshape", ("InstanceNormalization", ("Reshape", "y", "groups"), "ones", "zeros"), ("Shape", "y"))
_SHARE: Pattern = ("ReduceMean", "real")
_MEAN: Pattern = ("Div", ("ReduceMean", ("Mul", "y", "real")), _SHARE)
_CENTRED: Pattern = ("Mul", ("Sub", "y", _MEAN), "real")
_VARIANCE: Pattern = ("Div", ("ReduceMean", ("Mul", _CENTRED, _CENTRED)), _SHARE)
_SCALE: Pattern = ("Div", "gamma", ("Sqrt", ("Add", _VARIANCE, "epsilon")))
PATTERNS: tuple[Pattern, ...] = (
    ("Add", ("Mul", _GROUPS, "gamma"), "beta"),
    ("Add", ("Mul", _ALL_CHANNELS, "gamma"), "beta"),
    ("Add", ("Mul", _CENTRED, _SCALE), "beta"),
)

OPSET = 11  # of the suite's exports; from 13 on, other operators have their axes as inputs
_PREFIX = "first_layer/"  # of the names of what is added


class _Norm(NamedTuple):
    """A GroupNorm, with one group per channel, that reads a convolution with one input channel and without padding."""

    convolution: onnx.NodeProto
    weights: np.ndarray  # (C, k)
    gamma: np.ndarray  # (C,)
    beta: np.ndarray  # (C,)
    epsilon: float
    real: str | None  # the mask of the positions, (B, 1, P), or (B, 1, 1, P) in two dimensions; None: all are real
    last: onnx.NodeProto  # whose output is the GroupNorm's


def use_closed_form(model: onnx.ModelProto) -> None:
    """Give the first GroupNorm of an export, plain or masked, in one or two dimensions, its closed form; in place.

    Other graphs are left alone: models with LayerNorms, graphs of other exporters, and graphs that have it already.
    Of weights that are external data, only those of the first convolution and the GroupNorm need to be loaded.
    """
    norm = _find(model)
    if norm is None:
        return
    graph = model.graph
    new = _Nodes()
    _add_closed_form(new, norm)
    place = list(graph.node).index(norm.last)
    graph.node.remove(norm.last)
    for offset, node in enumerate(new.nodes):
        graph.node.insert(place + offset, node)
    graph.initializer.extend(new.constants)
    remove_unread(graph)


def statistics(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that `use_closed_form` adds. They need float."""
    return [node.name for node in model.graph.node if node.name.startswith(_PREFIX)]


def _add_closed_form(new: _Nodes, norm: _Norm) -> None:
    """Add the nodes that compute the output of `norm` from its convolution's input and output."""
    convolution, (channels, width) = norm.convolution, norm.weights.shape
    flat = (1,) * (len(ints(convolution, "kernel_shape")) - 1)  # the dimension of size 1 in two dimensions, or none
    basis = _cosines(width)
    weights = norm.weights.astype(np.float64) @ basis.T  # (C, k): of each cosine in each channel

    cosines = new.constant("cosines", basis.reshape(width, 1, *flat, width))
    strides = [*flat, ints(convolution, "strides")[-1]]
    windows = new.convolve("windows", [convolution.input[0], cosines], strides)  # (B, k, P)
    real = norm.real or new.ones_of_one_channel(windows)
    share = new.node("ReduceMean", [real], "share", axes=[-1], keepdims=1)
    sums = new.node("ReduceMean", [new.node("Mul", [windows, real], "real_windows")], "sums", axes=[-1], keepdims=1)
    means = new.node("Div", [sums, share], "means")  # (B, k, 1)

    # Each position counts 1 / sqrt(positions) on both sides of the product, so that no sum leaves float16's range.
    length = new.node("ReduceL2", [real], "length", axes=[-1], keepdims=1)
    unit = new.node("Div", [real, length], "unit")
    centred = new.node("Mul", [new.node("Sub", [windows, means], "deviations"), unit], "centred")
    rows = new.node("Reshape", [centred, new.constant("rows_shape", [0, width, -1])], "rows")  # (B, k, P), 2-D or not
    columns = new.node("Transpose", [rows], "columns", perm=[0, 2, 1])
    covariance = new.node("MatMul", [rows, columns], "covariance")  # (B, k, k)
    if flat:
        shape = new.constant("covariance_shape", [0, width, *flat, width])
        covariance = new.node("Reshape", [covariance, shape], "covariance_2d")

    ones = [*flat, 1]
    kernel = new.constant("kernel", weights.reshape(channels, width, *ones))
    mean = new.convolve("mean", [means, kernel, *convolution.input[2:]], ones)  # (B, C, 1)
    half = new.convolve("half", [covariance, kernel], ones)  # (B, C, k)
    terms = new.node("Mul", [half, new.constant("weights", weights.reshape(1, channels, *flat, width))], "terms")
    variance = new.node("ReduceSum", [terms], "variance", axes=[-1], keepdims=1)  # (B, C, 1)
    positive = new.node("Relu", [variance], "positive")  # rounding can leave less than nothing of a small variance
    epsilon = new.constant("epsilon", np.float64(norm.epsilon))
    deviation = new.node("Sqrt", [new.node("Add", [positive, epsilon], "above_zero")], "deviation")
    scale = new.node("Div", [new.constant("gamma", norm.gamma.reshape(1, channels, *ones)), deviation], "scale")

    centred = new.node("Sub", [convolution.output[0], mean], "shifted")
    scaled = new.node("Mul", [centred, scale], "scaled")
    beta = new.constant("beta", norm.beta.reshape(1, channels, *ones))
    new.node("Add", [scaled, beta], "normalised", output=norm.last.output[0])


class _Nodes:
    """Nodes to be added to a graph, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], name: str, output: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        name = f"{_PREFIX}{name}"
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name, **attributes))
        return output or name

    def constant(self, name: str, value: np.ndarray | np.floating | list[int]) -> str:
        """Add a constant, float32 if it is of floats, int64 otherwise; returns its name."""
        from onnx import numpy_helper

        array = np.asarray(value)
        name = f"{_PREFIX}{name}"
        dtype = np.float32 if array.dtype.kind == "f" else np.int64
        self.constants.append(numpy_helper.from_array(array.astype(dtype), name))
        return name

    def convolve(self, name: str, inputs: list[str], strides: list[int]) -> str:
        """Add a convolution without padding; returns the name of its output."""
        (kernel,) = (each.dims[2:] for each in self.constants if each.name == inputs[1])
        axes = len(strides)
        return self.node(
            "Conv",
            inputs,
            name,
            kernel_shape=list(kernel),
            strides=strides,
            dilations=[1] * axes,
            pads=[0] * 2 * axes,
            group=1,
        )

    def ones_of_one_channel(self, value: str) -> str:
        """A tensor of the value's shape, except that it has one channel, full of ones."""
        from onnx import helper

        bounds = [self.constant(name, [number]) for name, number in (("start", 0), ("end", 1), ("axis", 1))]
        shape = self.node("Shape", [self.node("Slice", [value, *bounds], "one_channel")], "shape")
        one = helper.make_tensor("one", 1, [1], [1.0])
        return self.node("ConstantOfShape", [shape], "ones", value=one)


def _cosines(width: int) -> np.ndarray:
    """The orthonormal discrete cosine transform (DCT-II), (width, width) float64: a row for each frequency."""
    frequency, sample = np.meshgrid(np.arange(width), np.arange(width), indexing="ij")
    basis: np.ndarray = np.cos(np.pi * (sample + 0.5) * frequency / width) * np.sqrt(2 / width)
    basis[0] /= np.sqrt(2)
    return basis


def _find(model: onnx.ModelProto) -> _Norm | None:
    """The first GroupNorm, if everything about it and its convolution is as in an export of the suite."""
    graph = model.graph
    convolution = next((node for node in graph.node if node.op_type == "Conv"), None)
    if convolution is None or [(each.domain, each.version) for each in model.opset_import] != [("", OPSET)]:
        return None
    producers = {name: node for node in graph.node for name in node.output}
    for last in graph.node:
        for pattern in PATTERNS:
            values: dict[str, str] = {}
            if _matches(pattern, last.output[0], producers, values) and values["y"] == convolution.output[0]:
                return _read(graph, convolution, last, producers, values)
    return None


def _matches(pattern: Pattern, name: str, producers: Mapping[str, onnx.NodeProto], values: dict[str, str]) -> bool:
    """Whether a value is computed as the pattern says. Adds to `values` what the pattern's texts stand for."""
    if isinstance(pattern, str):
        return values.setdefault(pattern, name) == name
    kind, *inputs = pattern
    node = producers.get(name)
    return (
        node is not None
        and node.op_type == kind
        and len(node.input) == len(inputs)
        and (kind != "ReduceMean" or (ints(node, "axes") == [-1] and _value(node, "keepdims", 1) == 1))
        and all(_matches(each, value, producers, values) for each, value in zip(inputs, node.input))
    )


def _read(
    graph: onnx.GraphProto,
    convolution: onnx.NodeProto,
    last: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    values: Mapping[str, str],
) -> _Norm | None:
    """The GroupNorm that ends in `last`, or None if its numbers are not constants of the expected sizes."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors.update({name: _value(node, "value") for name, node in producers.items() if node.op_type == "Constant"})
    wanted = {"weights": convolution.input[1], **values}
    found = {what: tensors[name] for what, name in wanted.items() if name in tensors}
    arrays = {
        what: numpy_helper.to_array(tensor) for what, tensor in found.items() if tensor.data_location != tensor.EXTERNAL
    }
    if "real" not in values:
        norm = next(node for node in graph.node if node.op_type == _ALL_CHANNELS[0] and values["ones"] in node.input)
        arrays["epsilon"] = np.array(_value(norm, "epsilon", 1e-5))
    weights, gamma, beta = (arrays.get(name, np.empty(0)) for name in ("weights", "gamma", "beta"))
    channels = len(weights)
    one_group_per_channel = "real" in values or (
        list(arrays.get("groups", [0, channels, -1])) == [0, channels, -1]
        and np.array_equal(arrays.get("ones", []), np.ones(channels))
        and np.array_equal(arrays.get("zeros", []), np.zeros(channels))
    )
    fits = (
        one_group_per_channel
        and weights.ndim > 2
        and weights.size == channels * weights.shape[-1]  # one input channel, and a window of one row
        and gamma.size == beta.size == channels
        and np.size(arrays.get("epsilon", [])) == 1
        and not any(ints(convolution, "pads") or [1])
        and set(ints(convolution, "dilations")) == {1}
        and ints(convolution, "kernel_shape") == list(weights.shape[2:])
        and _value(convolution, "group", 1) == 1
    )
    if not fits:
        return None
    return _Norm(
        convolution,
        weights.reshape(channels, -1),
        gamma.ravel(),
        beta.ravel(),
        float(arrays["epsilon"]),
        values.get("real"),
        last,
    )


def _value(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute of a node."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)
