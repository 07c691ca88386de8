# SPDX-License-Identifier: Apache-2.0
"""An exported model in int8, by NNCF's post-training quantization, kept only if its WER is as good.

All convolutions stay in float. Quantized completely, wav2vec2-base loses most of its accuracy (published: 1 - WER falls
from 0.947 to 0.500); with convolutions 1 to 3 in float it loses 0.007. The others gain nothing from int8 where that was
measured (test/bench/README.md): with AMX they run in slow float32 kernels then, and without int8 instructions they are
as fast in float. With VNNI and without AMX it was not measured.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ..engines.base import Arrays
from ..engines.choose import open_engine
from ..engines.first_layer import statistics, use_closed_form
from ..engines.model_file import read_metadata
from ..engines.openvino_graph import to_2d
from ..engines.precision import INSTALL_OPENVINO
from ..errors import SuiteError
from ..files.manifest import Manifest
from ..files.names import PRECISION_KEY, UTTERANCES_NAME
from ..files.tensors import DTYPE
from ..speech import wer
from ..speech.ctc import Symbols, greedy_decode
from .new_model import new_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CALIBRATED_UTTERANCES = 300  # at most; NNCF's own default
MAX_LOSS = 0.005  # of WER, on utterances that were not calibrated on
OPSET = 13  # the first with a scale per channel
MOST_BYTES = 1_900_000_000  # of weights: NNCF and onnx's converter of versions do not take a model above 2 GB

_FLOAT32 = DTYPE["float32"]


class Utterances(Sequence[Arrays]):
    """The model inputs of a manifest's utterances, each read when it is needed, and the reference texts."""

    def __init__(self, inputs: Manifest, keys: Sequence[str], texts: Sequence[str]) -> None:
        self._inputs = inputs
        self._keys = keys
        self.texts = texts

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> list[np.ndarray]:  # type: ignore[override]  # slices are not needed
        key = self._keys[index]  # IndexError ends an iteration
        return self._inputs.read_arrays(key, [_FLOAT32] * len(self._inputs[key]))


def read_calibration(path: Path, num_inputs: int) -> tuple[Utterances, Utterances]:
    """Two parts of what preprocess.py wrote: one half, cut to CALIBRATED_UTTERANCES, to calibrate, the other to test.

    Both are drawn evenly from the whole set, so they have the same speakers. Raises SuiteError for a manifest without
    references, or for another number of inputs.
    """
    inputs = Manifest(path)
    references = inputs.references()
    if references is None:
        raise SuiteError(f"--calibration={path}: expected {UTTERANCES_NAME} beside it, found none")
    if len(inputs) < 2:
        raise SuiteError(f"--calibration={path}: expected at least 2 utterances, found {len(inputs)}")
    found = len(next(iter(inputs.values())))
    if found != num_inputs:
        raise SuiteError(
            f"--calibration={path}: its utterances have {found} inputs, the model has {num_inputs}; give "
            f"--attention_mask to both preprocess.py and export_onnx.py, or to neither"
        )
    inputs.check_tensors([_FLOAT32] * num_inputs)
    keys = list(inputs)
    step = -(-len(keys[::2]) // CALIBRATED_UTTERANCES)
    calibrated = keys[::2][::step]
    texts = {key: references[key].text if key in references else None for key in keys}  # a chunk has none of its own
    held_out = [key for key in keys[1::2] if texts[key] is not None]
    if not held_out:
        raise SuiteError(f"--calibration={path}: expected utterances with references, not in chunks, found none")
    first, second = (Utterances(inputs, part, [texts[key] or "" for key in part]) for part in (calibrated, held_out))
    return first, second


def check_installed() -> None:
    """Raise SuiteError if NNCF cannot be imported, ModuleNotFoundError if jiwer is missing."""
    wer.check_installed()
    try:
        importlib.import_module("nncf")
    except ImportError:
        raise SuiteError(f"--quantize: NNCF cannot be imported; {INSTALL_OPENVINO}") from None


def check_size(model: PreTrainedModel, name: str) -> None:
    """Raise SuiteError if the model is too large to be quantized."""
    size = sum(weight.nbytes for weight in model.parameters())
    if size > MOST_BYTES:
        raise SuiteError(
            f"--quantize: {name} has {size / 1e9:.1f} GB of weights, expected at most {MOST_BYTES / 1e9:.1f} GB; "
            f"export it without --quantize"
        )


def export_int8(
    source: Path, path: Path, calibrated: Utterances, held_out: Utterances, symbols: Symbols, num_threads: int
) -> str:
    """Quantize `source` into `path` if, and only if, that costs no accuracy. Returns both WERs as a sentence.

    Raises SuiteError if it costs too much.
    """
    with new_model(path) as new:
        quantize(source, new, calibrated)
        onnx.checker.check_model(new, full_check=True)
        exact, quantized = (
            word_error_rate(file, precision, held_out, symbols, num_threads)
            for file, precision in ((source, "f32"), (new, "int8"))
        )
        figures = f"WER {quantized:.4f} in int8, {exact:.4f} in f32, on {len(held_out)} held-out utterances"
        if not quantized <= exact + MAX_LOSS:
            raise SuiteError(f"{path.name}: not written: {figures}; expected at most {MAX_LOSS} more")
    return figures


def quantize(source: Path, target: Path, utterances: Sequence[Arrays]) -> None:
    """Write `source` with int8 weights and activations, calibrated on `utterances`, and with its metadata."""
    check_installed()
    import nncf
    from onnx import version_converter

    nncf.set_log_level(logging.ERROR)
    model = onnx.load(source)
    to_2d(model)
    use_closed_form(model)
    names = float_nodes(model)
    for node in model.graph.node:
        if node.op_type == "Softmax":  # over the last axis, as PyTorch exports it
            node.attribute[0].i = -1  # or the converter adds a Flatten, which OpenVINO's fused attention does not allow
    model = version_converter.convert_version(model, OPSET)
    input_names = [value.name for value in model.graph.input]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(utterances, lambda arrays: dict(zip(input_names, arrays))),
        subset_size=len(utterances),
        ignored_scope=nncf.IgnoredScope(names=names),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    onnx.helper.set_model_props(quantized, {**read_metadata(source), PRECISION_KEY: "int8"})
    onnx.save(quantized, target)


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that stay in float: convolutions, attention's products, the first layer's statistics."""
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    return list(dict.fromkeys([*convolutions, *attention_products(model), *statistics(model)]))


def attention_products(model: onnx.ModelProto) -> list[str]:
    """The names of the products before and after each softmax: queries with keys, and attention with values.

    If they are in float, OpenVINO computes them and the softmax in one kernel.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def before(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [producers[name] for name in node.input if name in producers]

    def after(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [reader for name in node.output for reader in readers.get(name, [])]

    found = {}
    for neighbours in (before, after):
        waiting = [node for node in graph.node if node.op_type == "Softmax"]
        for node in waiting:  # the nearest products in this direction
            for each in neighbours(node):
                if each.op_type != "MatMul":
                    waiting.append(each)
                elif weights.isdisjoint(each.input):
                    found[each.name] = each
    return list(found)


def word_error_rate(path: Path, precision: str, utterances: Utterances, symbols: Symbols, num_threads: int) -> float:
    """WER of a model on this host's CPU."""
    with open_engine(path, num_threads=num_threads, precision=precision, prove=False) as engine:
        texts = [greedy_decode(result.outputs[0][0], symbols) for result in engine.stream(utterances)]
    return wer.total(wer.word_errors(utterances.texts, texts)).wer
