# SPDX-License-Identifier: Apache-2.0
"""The engine that is always there: onnxruntime on this host's CPU."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .audio import frame_count
from .cli import cpu_name
from .engines import Result, TensorSpec
from .errors import SuiteError
from .tensors import DTYPE
from .timing import MeasureTime

# onnxruntime names element types as ONNX does, except these; the others carry their width already.
_ONNX_NAMES = {"float": "float32", "double": "float64"}


class OnnxEngine:
    """Runs on `num_threads` threads, one utterance at a time, or with a masked model `batch_size` of them.

    Only a masked model (--attention_mask) may batch: any other would answer differently for every padding.
    """

    def __init__(self, model_path: Path, num_threads: int, batch_size: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise SuiteError("onnxruntime is not installed, which .onnx models need; pip install onnxruntime") from None

        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = num_threads
            options.log_severity_level = 4  # what it logs, the errors below say
            self._session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen classes for a bad model and no common base
            reason = " ".join(str(error).split())[:200]
            raise SuiteError(
                f"{model_path}: cannot be loaded ({reason}); export it again with export_onnx.py"
            ) from None
        self.inputs = [_spec(node) for node in self._session.get_inputs()]
        self._batch_size = batch_size
        masked = [spec.name for spec in self.inputs] == ["input", "attention_mask"]
        if batch_size > 1 and not (masked and all(spec.shape == (None, None) for spec in self.inputs)):
            raise SuiteError(
                f"--batch_size={batch_size} needs a model with attention_mask, to keep each utterance's answer; "
                f"export it by export_onnx.py --attention_mask"
            )
        self.gears = None
        self.conditions = {
            "engine": f"onnxruntime {onnxruntime.__version__}",
            "device": cpu_name(),
            "num_threads": num_threads,
            "batch_size": batch_size,
            "precision": _spec(self._session.get_outputs()[0]).dtype.name,
        }

    def stream(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        """Infer `batch_size` utterances at a time; one's time is its share of `InferenceSession.run`."""
        clock: dict[str, int] = {}
        waiting = iter(utterances)
        while batch := list(islice(waiting, self._batch_size)):
            inputs = [_stack(arrays) for arrays in zip(*batch)]
            with MeasureTime(clock, "pure_ns"):
                outputs = self._run(inputs)
            share_ns = clock["pure_ns"] // len(batch)
            if len(batch) == 1:
                yield Result(outputs, share_ns)
                continue
            for index, (waveform, *_) in enumerate(batch):  # the outputs are as long as the longest
                frames = frame_count(waveform.shape[1])
                yield Result([output[index : index + 1, :frames] for output in outputs], share_ns)

    def _run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(None, {spec.name: array for spec, array in zip(self.inputs, inputs)})
        except Exception as error:  # as above
            shapes = ", ".join(str(array.shape) for array in inputs)
            reason = " ".join(str(error).split())[:300]
            raise SuiteError(f"onnxruntime failed on inputs of shape {shapes}: {reason}") from None

    def __enter__(self) -> OnnxEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        del self._session


def _stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """(1, T) arrays of several lengths -> (B, longest T), zeros behind the shorter ones."""
    length = max(array.shape[1] for array in arrays)
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([np.pad(array, ((0, 0), (0, length - array.shape[1]))) for array in arrays])


def _spec(node: Any) -> TensorSpec:
    """What onnxruntime says of a model input or output."""
    element = re.sub(r"tensor\((\w+)\)", r"\1", node.type)
    dtype = DTYPE.get(_ONNX_NAMES.get(element, element))
    if dtype is None:
        raise SuiteError(f"model input {node.name}: expected a tensor of {' '.join(DTYPE)}, found {node.type}")
    return TensorSpec(node.name, dtype, tuple(axis if isinstance(axis, int) else None for axis in node.shape))
