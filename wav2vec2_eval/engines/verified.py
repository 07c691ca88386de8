# SPDX-License-Identifier: Apache-2.0
"""An engine proves itself on this processor before it is believed.

A library of kernels may be wrong on a processor that nobody has tried it on, without any error: oneDNN's bfloat16
convolutions were, on processors with AMX (narrow_groups.py), and the WER was 99.6 %. So a short utterance goes through
an engine when it is opened, and through the same model in float32: through onnxruntime for an .onnx, and on the CPU for
PyTorch. A masked model gets a second one, with padding. Above a limit, the engine is refused.

The verdict on an .onnx is kept beside the conversions of the model, in a file whose name is a hash of model,
versions, processor and settings. A refusal is not kept, and what cannot be kept is found out again each time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from ..files.file_list import Source
from ..files.names import ATTENTION_MASK, MODEL_RECORD_KEY
from ..machine.cpu import cpu_features, cpu_name
from ..speech.audio import SAMPLE_RATE, frame_count
from ..speech.padding import GEAR_STEP, masked_input
from .base import Arrays, Conditions, Engine
from .batching import is_masked
from .model_file import conversion_folder, is_sealed, model_digest
from .onnxruntime_cpu import OnnxruntimeEngine
from .openvino_model import CONVERSION, conversions
from .trial import shape_of

SETUP = 3  # raise when an engine opens models in another way, or when the utterances below change

NUM_SAMPLES = 16_719  # no multiple of anything that kernels are cut into
PADDED_SAMPLES = 7_321  # of the utterance with padding, in the shortest gear

# The largest relative error that is believed, by precision. Measured on random models of base's and large's size, and
# on the demo's trained model: float32 2e-6, float16 0.002, bfloat16 0.006 to 0.019, int8 0.05, of which a half is
# saturation on a processor without VNNI. With the positional convolution replaced by noise: 0.2 to 0.5.
LIMITS = {"f32": 1e-4, "f16": 0.01, "bf16": 0.08, "int8": 0.2}

# Environment variables by which users choose other kernels in oneDNN.
_KERNELS = [f"{library}_{name}" for library in ("ONEDNN", "DNNL") for name in ("MAX_CPU_ISA", "DEFAULT_FPMATH_MODE")]


def check_engine(engine: Engine, model_path: Path, precision: str) -> None:
    """Raise SuiteError unless an engine of this CPU computes what the model's float32 reference computes.

    Nothing is computed if the verdict was kept by an earlier start. If onnxruntime cannot run a model of another
    exporter, a warning says so.
    """
    limit = LIMITS[precision]
    if not is_sealed(model_path):  # other tools may have given it float16 or int8 inside, which engines do differently
        limit = max(limit, LIMITS["int8"])
    folder, verdict = conversion_folder(model_path), _made_of(engine.conditions, model_path, limit)
    name = f"{hashlib.sha256(verdict.encode()).hexdigest()[:16]}.txt"
    if _is_kept(folder, name):
        return
    error = _error(engine, model_path, precision)
    if error is None:
        return
    if not error <= limit:
        raise refusal(engine.conditions, error, limit, _remedy(engine.conditions, precision))
    with suppress(OSError, SuiteError), conversions(model_path) as out:
        out.check_free(name)
        out.write_text(name, f"{verdict}relative error: {error:.1e}\n")


def refusal(conditions: Conditions, error: float, limit: float, remedy: str) -> SuiteError:
    """The error for an engine that is wrong."""
    return SuiteError(
        f"{conditions} computes wrongly: the answers to a test utterance differ from those in float32 by {error:.1e} "
        f"relative, expected at most {limit:.0e}; {remedy}"
    )


def _remedy(conditions: Conditions, precision: str) -> str:
    other = "openvino" if conditions.engine.startswith("onnxruntime") else "onnxruntime"
    if precision == "bf16":  # which no other engine has
        return "use --precision=f32"
    return f"use --engine={other}" + (", or the float model with --precision=f32" if precision == "int8" else "")


def _made_of(conditions: Conditions, model_path: Path, limit: float) -> str:
    """Model, versions, processor and settings of kernels, one `label: value` a line."""
    try:
        reference = version("onnxruntime")
    except PackageNotFoundError:  # one of its builds that have other names
        reference = "of another name"
    facts = {
        "model": model_digest(model_path),
        "engine": conditions.engine,
        "precision": conditions.precision,
        "reference": f"onnxruntime {reference} in float32",
        "device": cpu_name(),
        "instructions": " ".join(sorted(cpu_features())),
        "kernels": " ".join(f"{name}={os.environ[name]}" for name in _KERNELS if name in os.environ),
        "setup": f"{SETUP}, conversion {CONVERSION}",
        "largest relative error": f"{limit:g}",
    }
    return "".join(f"{label}: {value}\n" for label, value in facts.items())


def _is_kept(folder: Path, name: str) -> bool:
    """Whether a script has written this file, and it is still whole."""
    try:
        source = Source(folder)
        return source.list is not None and bool(source.read(name))
    except (OSError, SuiteError):
        return False


def _error(engine: Engine, model_path: Path, precision: str) -> float | None:
    """The largest error of the engine's answers; None, after a warning, if there is nothing to compare them with."""
    inputs = utterances(engine)
    try:
        threads = engine.conditions.num_threads or 1
        stored = "int8" if precision == "int8" else "f32"
        with OnnxruntimeEngine(model_path, threads, stored, optimized=False) as reference:
            expected = _outputs(reference, inputs)
    except SuiteError as error:
        if MODEL_RECORD_KEY in engine.metadata:  # onnxruntime has proven its export
            raise
        print(f"{model_path}: {engine.conditions} is not compared with float32: {error}")
        return None
    actual = _outputs(engine, inputs)
    errors = [relative_error(actual[0], expected[0])]
    for one, other in zip(actual[1:], expected[1:]):
        errors.append(error_of_padded(one, other, frame_count(PADDED_SAMPLES), MODEL_RECORD_KEY in engine.metadata))
    return float(np.max(errors))  # NaN if any is NaN


def _outputs(engine: Engine, inputs: Sequence[Arrays]) -> list[list[np.ndarray]]:
    """The outputs of each utterance."""
    with closing(engine.stream(inputs)) as results:
        return [result.outputs for result in results]


def utterances(engine: Engine) -> list[list[np.ndarray]]:
    """The inputs of an utterance that the model allows; of a masked model, also those of one with padding.

    Integers are 0 or 1, a mask is 1.
    """
    whole = []
    for seed, spec in enumerate(engine.inputs):
        shape = shape_of(spec, NUM_SAMPLES)
        samples = waveform(int(np.prod(shape)), seed).reshape(shape)
        if spec.name == ATTENTION_MASK:
            samples = np.ones_like(samples)
        whole.append((samples if spec.dtype.kind == "f" else samples > 0).astype(spec.dtype))
    if not is_masked(engine.inputs):
        return [whole]
    padded = masked_input(waveform(PADDED_SAMPLES), GEAR_STEP)
    return [whole, [array.astype(spec.dtype) for array, spec in zip(padded, engine.inputs)]]


def waveform(num_samples: int, seed: int = 0) -> np.ndarray:
    """(T,) float32, normalised, always the same: a voice that changes its pitch and its vowel, in noise.

    A trained model hears symbols in it; of noise alone it might make blanks, whatever the engine computes.
    """
    time = np.arange(num_samples) / SAMPLE_RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 1.7 * time)  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    first = 500 + 250 * np.sin(2 * np.pi * 2.3 * time)  # Hz, of the vowel's two formants
    second = 1500 + 700 * np.sin(2 * np.pi * 1.1 * time + 1)
    voice = np.zeros(num_samples)
    for harmonic in range(1, 30):
        level = np.exp(-(((120 * harmonic - first) / 170) ** 2)) + np.exp(-(((120 * harmonic - second) / 280) ** 2)) / 2
        voice += level * np.sin(harmonic * phase)
    voice *= 1 + np.sin(2 * np.pi * 4 * time)  # syllables
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    samples = voice / (voice.std() or 1) + 0.65 * noise
    normalised: np.ndarray = ((samples - samples.mean()) / (samples.std() or 1)).astype(np.float32)
    return normalised


def relative_error(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The largest error of an utterance's outputs, relative to their spread around their mean.

    Of outputs that are no floats: the share that differs. Infinity if there are others, or of another shape.
    """
    if not _has_shapes_of(actual, expected):
        return float("inf")
    return float(np.max([_relative_error(one, other) for one, other in zip(actual, expected)]))


def _has_shapes_of(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> bool:
    return [output.shape for output in actual] == [output.shape for output in expected]


def _relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    if expected.dtype.kind != "f":
        return float(np.mean(actual != expected))
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    actual, expected = actual[finite].astype(np.float64), expected[finite].astype(np.float64)
    if not expected.size:
        return 0.0
    spread = np.linalg.norm(expected - expected.mean()) or np.linalg.norm(expected) or 1.0
    return float(np.linalg.norm(actual - expected) / spread)


def error_of_padded(
    actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], frames: int, blank_padding: bool = True
) -> float:
    """The error of the real frames.

    Infinity if the frames of the padding are not the reference's symbol; `blank_padding`: the model makes them blanks.
    """
    if not _has_shapes_of(actual, expected):
        return float("inf")
    error = relative_error([output[:, :frames] for output in actual], [output[:, :frames] for output in expected])
    symbols, blanks = (outputs[0][:, frames:].argmax(-1) for outputs in (actual, expected))
    return error if not blank_padding or np.array_equal(symbols, blanks) else float("inf")
