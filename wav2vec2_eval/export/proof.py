# SPDX-License-Identifier: Apache-2.0
"""The proof of an export: the file is kept only if it computes what PyTorch computes, in every engine of this CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from ..engines.base import Engine
from ..engines.choose import open_engine
from ..engines.openvino_model import is_installed
from ..errors import SuiteError
from ..machine.progress import track
from ..machine.terminal import say
from ..speech.padding import GEARS, masked_input
from . import graph
from .new_model import new_model

PROOF_SAMPLES = (400, 10_000, 33_360, 73_123, 160_000)  # below and above the traced length, gears and others
MASKED_PROOF_SAMPLES = (400, 33_360, 73_123, 166_960, 559_280)  # true lengths, each in all gears that hold it
OTHER_PROOF_STEP = 8  # in engines other than onnxruntime, every eighth gear proves the masked model
MAX_RELATIVE_ERROR = 1e-4


def export_proven(
    model: PreTrainedModel,
    path: Path,
    *,
    attention_mask: bool = False,
    metadata: Mapping[str, str] = graph.NO_METADATA,
    num_threads: int,
) -> float:
    """Write `path`, with `metadata`, if, and only if, its graph is valid and equals `model`.

    Returns the worst relative error of the proof. Raises SuiteError if it is too large.
    """
    with new_model(path) as new:
        graph.write_graph(model, new, attention_mask, metadata)
        return prove(model, new, attention_mask, num_threads)


def prove(model: PreTrainedModel, path: Path, attention_mask: bool, num_threads: int) -> float:
    """The worst relative error of the file against `model`, in every engine that this host's CPU has.

    Raises SuiteError if it is above MAX_RELATIVE_ERROR.
    """
    worst_of_all = 0.0
    for name in ("onnxruntime", "openvino") if is_installed() else ("onnxruntime",):
        gears = GEARS if name == "onnxruntime" else GEARS[::-OTHER_PROOF_STEP][::-1]
        with open_engine(path, num_threads=num_threads, engine=name, prove=False) as engine, torch.inference_mode():
            say(f"{engine.conditions.engine} against PyTorch {torch.__version__}, float32:")
            errors = list(compare_padded(model, engine, gears) if attention_mask else compare(model, engine))
        worst = float(np.max(errors))  # NaN if any is NaN
        say(f"worst relative error: {worst:.1e}")
        if not worst <= MAX_RELATIVE_ERROR:
            raise SuiteError(
                f"{path.name}: not written: {name} and PyTorch differ by {worst:.1e} relative, "
                f"expected at most {MAX_RELATIVE_ERROR:.0e}"
            )
        worst_of_all = max(worst_of_all, worst)
    return worst_of_all


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest logit. Raises SuiteError if the shapes differ."""
    if actual.shape != expected.shape:
        raise SuiteError(f"expected logits of shape {expected.shape}, the exported model gives {actual.shape}")
    return float(abs(actual - expected).max() / abs(expected).max())


def compare(model: PreTrainedModel, engine: Engine) -> Iterator[float]:
    """Relative errors of the exported `model` on noise of several lengths, and on a batch."""
    noise = np.random.default_rng(0).standard_normal
    shapes = [(1, length) for length in PROOF_SAMPLES]
    shapes.append((2, PROOF_SAMPLES[1]))  # the batch axis must be open, too
    for shape in shapes:
        waveform = noise(shape, dtype=np.float32)
        (result,) = engine.stream([[waveform]])
        error = relative_error(result.outputs[0], model(torch.from_numpy(waveform)).logits.numpy())
        say(f"  {shape[0]} x {shape[1]:6d} samples: relative error {error:.1e}")
        yield error


def compare_padded(model: PreTrainedModel, engine: Engine, all_gears: Sequence[int]) -> Iterator[float]:
    """Relative errors of the exported masked model, padded to every gear that fits, against the unpadded `model`.

    Frames beyond the end must be the blank: infinite error otherwise.
    """
    noise = np.random.default_rng(0).standard_normal
    for length in MASKED_PROOF_SAMPLES:
        waveform = noise(length, dtype=np.float32)
        expected = model(torch.from_numpy(waveform[None])).logits.numpy()
        frames = expected.shape[1]
        gears = [gear for gear in all_gears if gear >= length]
        worst, flips = 0.0, 0
        for gear in track(gears, len(gears), unit="gears", title=f"{length} samples"):
            (result,) = engine.stream([masked_input(waveform, gear)])
            logits = result.outputs[0]
            error = relative_error(logits[:, :frames], expected)
            beyond = logits[0, frames:].argmax(-1)
            error = error if (beyond == model.config.pad_token_id).all() else float("inf")
            flips += int((logits[:, :frames].argmax(-1) != expected.argmax(-1)).sum())
            worst = max(worst, error)
            yield error
        say(f"  {length:6d} samples in {len(gears):2d} gears: relative error {worst:.1e}, {flips} other symbols")
    yield from compare_batch(model, engine)


def compare_batch(model: PreTrainedModel, engine: Engine) -> Iterator[float]:
    """Relative errors of two utterances of different length in one batch, against each utterance alone."""
    long, short = 20_000, 12_345
    waveforms = [np.random.default_rng(1).standard_normal(length, dtype=np.float32) for length in (long, short)]
    inputs = zip(*(masked_input(waveform, long) for waveform in waveforms))
    (result,) = engine.stream([[np.concatenate(arrays) for arrays in inputs]])
    for waveform, logits in zip(waveforms, result.outputs[0]):
        expected = model(torch.from_numpy(waveform[None])).logits.numpy()
        yield relative_error(logits[None, : expected.shape[1]], expected)
