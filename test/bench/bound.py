# SPDX-License-Identifier: Apache-2.0
"""The bound of this machine: how fast its cores multiply matrices, and what a model asks of them.

The rates are those of OpenVINO: products of the sizes of the model's layers for an utterance of 7 s, and of large
squares, an execution on each thread, in float32, bfloat16 and int8 as the processor has them. A convolution is measured
as the products of its taps. The operations of a model follow from its configuration: two for each multiplication and
addition of a matrix product or a convolution; element-wise work counts as nothing. So the bound is what an engine would
reach that did nothing else.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peers import Process, answer, openvino_capabilities

from wav2vec2_eval import cli
from wav2vec2_eval.speech.audio import SAMPLE_RATE

UTTERANCE = 7 * SAMPLE_RATE  # samples
SQUARE = 2048
WINDOWS, WINDOW_S = 3, 0.04  # of each product in a round
LAYERS, CONVOLUTIONS, SQUARES = KINDS = "layers", "convolutions", "squares"
Rates = Mapping[str, Mapping[str, float]]  # precision -> LAYERS, CONVOLUTIONS or SQUARES -> operations per second


class Shape(NamedTuple):
    """The part of a model's configuration that decides its work."""

    channels: Sequence[int]  # of the convolutions
    kernels: Sequence[int]
    strides: Sequence[int]
    hidden: int
    intermediate: int
    layers: int
    positional: Sequence[int]  # the taps of each positional convolution
    groups: int
    symbols: int


def read_shape(model: str) -> Shape:
    """The shape of a hub's model, or of one in a folder."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    taps = [config.num_conv_pos_embeddings]
    if hasattr(config, "conv_pos_kernel_size"):  # Data2Vec has several
        taps = [config.conv_pos_kernel_size] * config.num_conv_pos_embeddings
    return Shape(
        config.conv_dim,
        config.conv_kernel,
        config.conv_stride,
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        taps,
        config.num_conv_pos_embedding_groups,
        config.vocab_size,
    )


class Work(NamedTuple):
    """Operations, by what computes them."""

    convolutions: float
    products: float  # with weights
    attention: float  # products of activations

    @property
    def total(self) -> float:
        return sum(self)


def positions(shape: Shape, samples: int) -> list[int]:
    """The number of positions after each convolution."""
    found: list[int] = []
    for kernel, stride in zip(shape.kernels, shape.strides):
        samples = (samples - kernel) // stride + 1
        found.append(samples)
    return found


def work_of(shape: Shape, samples: int) -> Work:
    """What an unpadded utterance asks for."""
    after = positions(shape, samples)
    frames, hidden = after[-1], shape.hidden
    inputs = [1, *shape.channels]
    extractor = sum(map(math.prod, zip(after, shape.kernels, inputs, shape.channels)))
    positional = frames * hidden * hidden // shape.groups * sum(shape.positional)
    each_layer = 4 * hidden * hidden + 2 * hidden * shape.intermediate
    weights = shape.channels[-1] * hidden + shape.layers * each_layer + hidden * shape.symbols
    attention = 2 * shape.layers * frames * frames * hidden
    return Work(2.0 * (extractor + positional), 2.0 * frames * weights, 2.0 * attention)


def work_per_second(shape: Shape, lengths: Sequence[int]) -> Work:
    """The mean over utterances of these lengths in samples, for each second of audio."""
    audio_s = sum(lengths) / SAMPLE_RATE
    each = [work_of(shape, samples) for samples in lengths]
    return Work(*(sum(part) / audio_s for part in zip(*each)))


def bound_rtfx(work: Work, rates: Rates, precision: str, best: bool = False) -> float | None:
    """RTFx at these rates; `best`: all products at the rate of large squares. None: not measured.

    In int8 the convolutions and attention stay in the fastest float.
    """
    if precision not in rates:
        return None
    floats = rates["bf16" if "bf16" in rates else "f32"] if precision == "int8" else rates[precision]
    of_layers, of_convolutions = (SQUARES, SQUARES) if best else (LAYERS, CONVOLUTIONS)
    seconds = work.convolutions / floats[of_convolutions]
    seconds += work.products / rates[precision][of_layers] + work.attention / floats[of_layers]
    return 1 / seconds


# The measurement, in a process of its own


def precisions() -> list[str]:
    """Those in which this processor multiplies matrices; int8 may be emulated."""
    capabilities = openvino_capabilities()
    return ["f32", *(["bf16"] if "BF16" in capabilities else []), "int8"]


def chains(shape: Shape) -> dict[str, list[tuple[int, list[tuple[int, int]]]]]:
    """What is multiplied for each rate: rows, and the sizes of the matrices that they go through one after another."""
    after, hidden, wide = positions(shape, UTTERANCE), shape.hidden, shape.intermediate
    layer = [(hidden, hidden)] * 4 + [(hidden, wide), (wide, hidden)]
    pairs = zip(after[1:], shape.kernels[1:], shape.channels, shape.channels[1:])
    convolutions = [(rows, [(source, target)] * taps) for rows, taps, source, target in pairs if source == target]
    return {
        LAYERS: [(after[-1], layer * 2)],
        CONVOLUTIONS: convolutions,
        SQUARES: [(SQUARE, [(SQUARE, SQUARE)])],
    }


def operations(rows: int, sizes: Iterable[tuple[int, int]]) -> float:
    """Of a chain of products."""
    return 2.0 * rows * sum(source * target for source, target in sizes)


def chain_model(rows: int, sizes: Sequence[tuple[int, int]], quantized: bool) -> Any:
    """A model that multiplies (rows, K) by matrices (K, N), with FakeQuantize as NNCF writes it around each product."""
    import openvino
    from openvino import opset13 as op

    random = np.random.default_rng(0)
    x = parameter = op.parameter([rows, sizes[0][0]], np.float32)
    for source, target in sizes:
        values = random.standard_normal((target, source), dtype=np.float32) / source**0.5
        weight = op.constant(values)
        if quantized:
            low, high, most = (np.float32(each) for each in (-4, 4 * 127 / 128, abs(values).max()))
            x = op.fake_quantize(x, low, high, low, high, 256)
            weight = op.fake_quantize(weight, -most, most, -most, most, 255)
        x = op.matmul(x, weight, False, True)
    mean = op.reduce_mean(x, np.array([0, 1]), False)  # a large output would cost time by itself
    return openvino.Model([op.result(mean)], [parameter])


class Products:
    """A compiled chain of products, executed on all threads at once, each with its own rows."""

    def __init__(self, rows: int, sizes: Sequence[tuple[int, int]], precision: str, threads: int) -> None:
        import openvino

        properties: dict[str, object] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        properties["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bf16" else "f32"
        model = chain_model(rows, sizes, precision == "int8")
        self._queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", properties), threads)
        self._input = np.random.default_rng(1).standard_normal((rows, sizes[0][0]), dtype=np.float32)
        self._threads = threads
        self.work = operations(rows, sizes)
        self.rate()

    def rate(self) -> float:
        """Operations per second in the best of the windows: other processes make none faster."""
        return max(self._window() for _ in range(WINDOWS))

    def _window(self) -> float:
        done, start = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < WINDOW_S:
            for _ in range(self._threads):
                self._queue.start_async([self._input], share_inputs=True)
            self._queue.wait_all()
            done += self._threads
        return done * self.work / (time.perf_counter() - start)


def mean_rate(products: Sequence[Products]) -> float:
    """Of all their work together."""
    return sum(each.work for each in products) / sum(each.work / each.rate() for each in products)


class Bound(Process):
    """The process that measures the rates."""

    def __init__(self, shape: Shape, threads: int, log: Path) -> None:
        super().__init__([shape, threads], log, script=__file__)
        self.read()

    def rates(self) -> Rates:
        return self.ask({})


def best_rates(rounds: Sequence[Rates]) -> Rates:
    """The highest of each rate over the rounds: a bound is what the machine can do when it is quiet."""
    return {
        precision: {kind: max(each[precision][kind] for each in rounds) for kind in kinds}
        for precision, kinds in rounds[0].items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    fields, threads = json.loads((argv or sys.argv[1:])[0])
    measured = {
        precision: {
            kind: [Products(rows, sizes, precision, threads) for rows, sizes in parts]
            for kind, parts in chains(Shape(*fields)).items()
        }
        for precision in precisions()
    }
    answer({})
    for _ in sys.stdin:
        answer(
            {
                precision: {kind: mean_rate(products) for kind, products in kinds.items()}
                for precision, kinds in measured.items()
            }
        )
    return 0


if __name__ == "__main__":
    cli.run(main)
