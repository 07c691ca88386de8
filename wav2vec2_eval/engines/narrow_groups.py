# SPDX-License-Identifier: Apache-2.0
"""Convolutions that a processor with AMX computes wrongly below float32, and the exact way round in OpenVINO.

oneDNN 3.12, which both PyTorch and OpenVINO call, makes a relative error of about 1 in bfloat16 if a convolution has
few input channels per group and many taps. Measured with AMX: wrong at 4 to 12 channels x 16 taps and at 2 to 12
channels x 64 or 128 taps, in any number of groups, in one and in two dimensions; right at 12 channels x 3 taps, at 2 x
16, and from 16 channels on. The positional convolution of wav2vec2-base has 48 channels per group, that of large 64; a
smaller model may have fewer than 16.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

ENOUGH_CHANNELS = 16
_RIGHT_PRODUCTS = 36  # channels times taps: right up to here, wrong from 64 on; nothing between was measured
_CHANNELS = {"Convolution": 1, "GroupConvolution": 2}  # the axis of the input channels in the weights; then come taps


def is_narrow(channels: int, taps: int) -> bool:
    """Whether a convolution of so many input channels per group may be computed wrongly below float32.

    Not of a single channel: the first convolution of wav2vec 2.0, 10 taps wide, is right.
    """
    return 1 < channels < ENOUGH_CHANNELS and channels * taps > _RIGHT_PRODUCTS


def widen(model: openvino.Model) -> None:
    """Give every narrow convolution channels with weights of zero, in place: the same numbers, from a right kernel.

    A model without narrow convolutions stays as it is, and so do convolutions whose weights are not constant.
    """
    for node in model.get_ordered_ops():
        axis = _CHANNELS.get(node.get_type_name())
        if axis is not None and node.input_value(1).get_partial_shape().is_static:
            shape = node.input_value(1).get_shape()
            if is_narrow(shape[axis], prod(shape[axis + 1 :])):
                _widen(node, axis)
    model.validate_nodes_and_infer_types()


def _widen(node: openvino.Node, axis: int) -> None:
    """Let a convolution read the last channel of each group several times more, and multiply it by zero."""
    from openvino import opset13 as ops

    weights = _numbers(node.input_value(1))
    if weights is None:
        return
    groups, channels = weights.shape[0] if axis == 2 else 1, weights.shape[axis]
    lacking = (0, ENOUGH_CHANNELS - channels)
    order = np.pad(np.arange(groups * channels).reshape(groups, channels), [(0, 0), lacking], "edge")
    data = ops.gather(node.input_value(0), ops.constant(order.ravel()), ops.constant(np.int64(1)))
    wide = np.pad(weights, [lacking if each == axis else (0, 0) for each in range(weights.ndim)])
    node.input(0).replace_source_output(data.output(0))
    node.input(1).replace_source_output(ops.constant(wide).output(0))


def _numbers(weights: openvino.Output) -> np.ndarray | None:
    """The numbers of constant weights, also of those that are computed from int8 ones; None for others."""
    import openvino
    from openvino.passes import ConstantFolding, Manager

    try:
        model = openvino.Model([weights], [], "weights")
    except RuntimeError:  # they depend on an input of the model
        return None
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    folded = model.get_results()[0].input_value(0).get_node()
    return np.array(folded.data) if folded.get_type_name() == "Constant" else None
