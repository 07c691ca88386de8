# SPDX-License-Identifier: Apache-2.0
"""The first trial of a host: what it has, what the model is, and one silent utterance. Facts are label -> text."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from ..files.names import ATTENTION_MASK
from ..files.tensors import format_shape
from ..speech.audio import SAMPLE_RATE
from .base import Engine, Result, TensorSpec
from .npu import facts as npu


def host_facts(model_path: Path) -> Mapping[str, str]:
    """What is known before any device is opened; of CANN, only for a model that needs it."""
    facts = {
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "numpy": np.__version__,
    }
    if model_path.suffix != ".onnx":
        facts |= npu.host_facts()
    return facts


def model_facts(engine: Engine) -> Mapping[str, str]:
    """The inputs and the gears of the engine's model."""
    inputs = {
        f"input {index}": f"{spec.name} {spec.dtype.name} {format_shape(spec.shape)}"
        for index, spec in enumerate(engine.inputs)
    }
    if engine.gears is None:
        return {**inputs, "gears": "none"}
    lengths = [gear[-1] for gear in engine.gears]
    return {**inputs, "gears": f"{len(lengths)}, {min(lengths)} to {max(lengths)} samples"}


def silence(engine: Engine) -> list[np.ndarray]:
    """The inputs of a silent utterance: in the shortest gear, or one second where any length is allowed.

    An attention mask says that all samples are real.
    """
    shapes = [shape_of(spec, SAMPLE_RATE) for spec in engine.inputs]
    if engine.gears is not None:
        axes = iter(min(engine.gears, key=lambda gear: gear[-1]))
        shapes = [tuple(islice(axes, len(shape))) for shape in shapes]
    return [
        (np.ones if spec.name == ATTENTION_MASK else np.zeros)(shape, spec.dtype)
        for spec, shape in zip(engine.inputs, shapes)
    ]


def shape_of(spec: TensorSpec, num_samples: int) -> tuple[int, ...]:
    """The shape of so much audio: samples are the last axis, and an open axis before them has length 1.

    Fixed axes keep their length.
    """
    *others, samples = spec.shape
    return (*(1 if axis is None else axis for axis in others), num_samples if samples is None else samples)


def infer_silence(engine: Engine) -> tuple[Result, int]:
    """Infer one silent utterance; returns its result and its length in samples.

    Raises SuiteError if the model fails, or if an output holds infinity or NaN.
    """
    arrays = silence(engine)
    with closing(engine.stream([arrays])) as results:
        (result,) = results
    for index, output in enumerate(result.outputs):
        wrong = output.size - int(np.count_nonzero(np.isfinite(output)))
        if wrong:
            raise SuiteError(
                f"model output {index}: expected finite numbers for silence, found {wrong} of {output.size} that are "
                f"not; compile the model in another precision (docs/ascend.md), or export it again"
            )
    return result, arrays[0].shape[-1]


def result_facts(result: Result) -> Mapping[str, str]:
    """The outputs and the time of an utterance whose outputs are finite."""
    outputs = {
        f"output {index}": f"{output.dtype.name} {format_shape(output.shape)}, finite"
        for index, output in enumerate(result.outputs)
    }
    return {**outputs, "first execution": f"{result.pure_ns / 1e6:.2f} ms"}
