# SPDX-License-Identifier: Apache-2.0
"""An exported model in int8, by NNCF's post-training quantization, kept only if it recognises as well.

The first four convolutions stay in float: quantized blindly, wav2vec2-base loses most of its accuracy (published:
1 - WER from 0.947 to 0.500), and with convolutions 1 to 3 in float next to nothing (0.007). The one before is cheap.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from . import ctc, engines, manifest, scoring, tensors
from .batches import Inputs
from .errors import SuiteError
from .openvino_graph import to_2d

FLOAT_CONVOLUTIONS = 4
CALIBRATED_UTTERANCES = 300  # at most; NNCF's own default
MAX_LOSS = 0.005  # of WER, on utterances that were not calibrated on
OPSET = 13  # the first with a scale per channel


class Samples(Sequence[Inputs]):
    """The model inputs of a manifest's utterances, each read when it is asked for, and their texts."""

    def __init__(self, entries: Sequence[Sequence[manifest.Entry]], texts: Sequence[str]) -> None:
        self._entries = entries
        self.texts = texts

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Inputs:
        entries = self._entries[index]  # IndexError ends an iteration
        return [tensors.read_bin(entry.path, entry.shape, tensors.DTYPE["float32"]) for entry in entries]


def read_samples(path: Path, num_inputs: int) -> tuple[Samples, Samples]:
    """What preprocess.py wrote, in two parts: up to CALIBRATED_UTTERANCES to calibrate on, and a half that is held out.

    Both are drawn evenly from the whole, so that they have the same speakers. Raises SuiteError for a manifest without
    references, or for another number of inputs.
    """
    utterances = manifest.read_manifest(path)
    references = manifest.read_utterances(path.with_name(manifest.UTTERANCES_NAME))
    manifest.check_same_keys(utterances, references, str(path))
    if len(utterances) < 2:
        raise SuiteError(f"--calibration={path}: expected at least 2 utterances, found {len(utterances)}")
    found = len(next(iter(utterances.values())))
    if found != num_inputs:
        raise SuiteError(
            f"--calibration={path}: its utterances have {found} inputs, the model has {num_inputs}; give "
            f"--attention_mask to both preprocess.py and export_onnx.py, or to neither"
        )
    for entries in utterances.values():
        for entry in entries:
            tensors.check_size(entry.path, entry.shape, tensors.DTYPE["float32"], "run preprocess.py again")
    keys = list(utterances)
    step = -(-len(keys[::2]) // CALIBRATED_UTTERANCES)
    calibrated, held_out = (
        Samples([utterances[key] for key in part], [references[key].text for key in part])
        for part in (keys[::2][::step], keys[1::2])
    )
    return calibrated, held_out


def check_installed() -> None:
    """Raise SuiteError if NNCF cannot be imported."""
    os.environ.setdefault("NNCF_CI", "1")  # otherwise NNCF reports its use over the network
    try:
        importlib.import_module("nncf")
    except ImportError:
        raise SuiteError("--quantize: NNCF cannot be imported; pip install -r requirements-openvino.txt") from None


def quantize(source: Path, target: Path, samples: Sequence[Inputs]) -> None:
    """Write `source` with int8 weights and activations, calibrated on `samples`."""
    check_installed()
    import nncf
    import onnx
    from onnx import version_converter

    nncf.set_log_level(logging.ERROR)
    model = onnx.load(source)
    to_2d(model)
    names = [node.name for node in model.graph.node if node.op_type == "Conv"][:FLOAT_CONVOLUTIONS]
    model = version_converter.convert_version(model, OPSET)
    names_of_inputs = [value.name for value in model.graph.input]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(samples, lambda inputs: dict(zip(names_of_inputs, inputs))),
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(names=names),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    onnx.helper.set_model_props(quantized, {engines.PRECISION_KEY: "int8"})
    onnx.save(quantized, target)


def word_error_rate(path: Path, precision: str, samples: Samples, symbols: ctc.Symbols, threads: int) -> float:
    """WER of a model on this host's CPU."""
    with engines.open_engine(path, num_threads=threads, precision=precision) as engine:
        logits = (result.outputs[0][0] for result in engine.stream(samples))
        texts = [ctc.greedy_decode(each, symbols) for each in logits]
    return scoring.corpus_errors(samples.texts, texts).wer
