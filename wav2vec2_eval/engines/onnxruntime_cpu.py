# SPDX-License-Identifier: Apache-2.0
"""The engine that is always there: onnxruntime on this host's CPU."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SuiteError
from ..files.names import PRECISION_KEY
from ..machine.cpu import cpu_name
from . import batching
from .base import Arrays, Conditions, Engine, Port, Result, check_model, check_precision, failed, unusable
from .clock import MeasureTime
from .model_file import read_metadata

# onnxruntime names element types as ONNX does, except these; the others carry their width already.
_ONNX_NAMES = {"float": "float32", "double": "float64"}


class OnnxruntimeEngine(Engine):
    """Runs on `num_threads` threads, one utterance at a time, or with a masked model `batch_size` of them.

    `optimized`: False runs the graph as it is written. The products of an int8 model are then computed in float32, of
    its rounded numbers.
    """

    def __init__(
        self,
        model_path: Path,
        num_threads: int,
        precision: str = "f32",
        batch_size: int = 1,
        optimized: bool = True,
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise SuiteError("onnxruntime is not installed, which .onnx models need; pip install onnxruntime") from None

        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = num_threads
            options.log_severity_level = 4  # its log repeats the exceptions below
            # Without instructions for int8 (VNNI), sums of two products would saturate at 16 bits. As fast.
            options.add_session_config_entry("session.x64quantprecision", "1")
            if not optimized:
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._session = onnxruntime.InferenceSession(
                model_path,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it would print four lines, and try the same provider again
            )
            inputs, outputs = map(_port, self._session.get_inputs()), map(_port, self._session.get_outputs())
            self.inputs, output_dtypes = check_model(model_path, inputs, outputs)
        except SuiteError:
            raise
        except Exception as error:  # onnxruntime has a dozen classes for a bad model and no common base
            raise unusable(model_path, error) from None
        batching.check_batch_size(batch_size, self.inputs)
        self._batch_size = batch_size
        self.metadata = read_metadata(model_path)
        check_precision(model_path, precision, self.metadata.get(PRECISION_KEY))
        self.conditions = Conditions(
            engine=f"onnxruntime {onnxruntime.__version__}",
            device=cpu_name(),
            precision=output_dtypes[0].name if precision == "f32" else precision,
            num_threads=num_threads,
            batch_size=batch_size,
        )

    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        """Infer `batch_size` utterances at a time; each is charged an equal share of `InferenceSession.run`."""
        clock: dict[str, int] = {}
        for batch in batching.batched(utterances, self._batch_size):
            inputs = batching.stack(batch)
            with MeasureTime(clock, "pure_ns"):
                outputs = self._run(inputs)
            share_ns = clock["pure_ns"] // len(batch)
            for utterance_outputs in batching.split(outputs, batch, inputs):
                yield Result(utterance_outputs, share_ns)

    def _run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            outputs: list[np.ndarray] = self._session.run(
                None, {spec.name: array for spec, array in zip(self.inputs, inputs)}
            )
            return outputs
        except Exception as error:  # no common base here either
            raise failed("onnxruntime", inputs, error) from None

    def close(self) -> None:
        del self._session


def _port(node: Any) -> Port:
    """What onnxruntime says of a model input or output. Its shape is empty, too, if the number of axes is not known."""
    element = re.sub(r"^tensor\((\w+)\)$", r"\1", node.type)
    shape = tuple(axis if isinstance(axis, int) else None for axis in node.shape)
    return Port(node.name, _ONNX_NAMES.get(element, element), shape or None)
