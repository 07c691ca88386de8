# SPDX-License-Identifier: Apache-2.0
"""What an inference engine is.

An engine opens a model, names its inputs, and turns a stream of inputs into a stream of outputs with pure inference
times. It is a stream and not a call, so that an engine may overlap copying and computing of different utterances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import SuiteError, one_line
from ..files.tensors import format_shape

if TYPE_CHECKING:
    from typing_extensions import Self

Arrays = Sequence[np.ndarray]  # the model inputs of one utterance, in model order


class TensorSpec(NamedTuple):
    """A model input: its name, element type and shape, None for an axis of any length."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


class Result(NamedTuple):
    """One inference: the outputs in model order, and its times.

    `pure_ns`: execution time. With several executions on one CPU, this utterance's share of the busy time; `elapsed_ms`
    is then its time from start to end. `device_ms`: the device's own measurement.
    """

    outputs: list[np.ndarray]
    pure_ns: int
    device_ms: float | None = None
    elapsed_ms: float | None = None


class Conditions(NamedTuple):
    """The conditions of an engine's figures. None: the engine has no such setting."""

    engine: str  # with its version
    device: str
    precision: str
    num_threads: int | None = None
    batch_size: int | None = None
    in_flight: int | None = None
    gears: int | None = None  # how many


class Engine(ABC):
    """One opened model. A context manager that closes it on leaving."""

    inputs: Sequence[TensorSpec]
    gears: Sequence[tuple[int, ...]] | None = None  # the axes of all inputs in a row; None: any length `inputs` allow
    conditions: Conditions

    @abstractmethod
    def stream(self, utterances: Iterable[Arrays]) -> Iterator[Result]:
        """Infer each utterance; yields one Result each, in order. Raises SuiteError if the model fails."""

    @abstractmethod
    def close(self) -> None:
        """Release the model. Called once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # a failure to release must not hide the failure that came first
                raise

    def check_dtypes(self, dtypes: Sequence[np.dtype]) -> None:
        """Raise SuiteError unless `dtypes` fit the model's inputs.

        A file of floats also fits a float input of another width; it is converted when it is read.
        """
        same = [spec.dtype == dtype or spec.dtype.kind == dtype.kind == "f" for spec, dtype in zip(self.inputs, dtypes)]
        if len(self.inputs) != len(dtypes) or not all(same):
            found = ",".join(dtype.name for dtype in dtypes)
            raise SuiteError(
                f"--input_dtypes={found}: the model's inputs are {self._names()}; give one dtype for each, in this "
                f"order"
            )

    def check_shapes(self, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> None:
        """Raise SuiteError unless the inputs of every utterance, by its key, fit in number, fixed axes and gears."""
        for key, found in shapes.items():
            if len(found) != len(self.inputs):
                raise SuiteError(
                    f"utterance {key}: expected {len(self.inputs)} inputs ({self._names()}), "
                    f"found {len(found)} manifest lines"
                )
            for shape, spec in zip(found, self.inputs):
                fits = len(shape) == len(spec.shape) and all(
                    fixed in (None, length) for fixed, length in zip(spec.shape, shape)
                )
                if not fits:
                    raise SuiteError(
                        f"utterance {key}: input {spec.name} has shape {format_shape(spec.shape)}, "
                        f"the manifest says {format_shape(shape)}"
                    )
            if self.gears is not None and tuple(axis for shape in found for axis in shape) not in self.gears:
                gears = ",".join(str(gear[-1]) for gear in self.gears)
                raise SuiteError(
                    f"utterance {key}: {found[0][-1]} samples are no gear of the model; run preprocess.py with "
                    f"--gears={gears}"
                )

    def _names(self) -> str:
        return ", ".join(f"{spec.name} {spec.dtype.name}" for spec in self.inputs)


def check_precision(model_path: Path, asked: str, stored: str | None) -> None:
    """Raise SuiteError if int8 is asked of a model that is not quantized, or another precision of one that is.

    `stored` is the precision in the model's metadata.
    """
    if (asked == "int8") != (stored == "int8"):
        remedy = (
            "export it with --quantize=int8 first"
            if asked == "int8"
            else "give --precision=int8, or the model that is not quantized"
        )
        raise SuiteError(f"{model_path}: --precision={asked}, but the model's weights are {stored or 'f32'}; {remedy}")


def unusable(model_path: Path, error: Exception) -> SuiteError:
    """The error for a model that an engine's library refuses."""
    return SuiteError(f"{model_path}: cannot be loaded ({one_line(error, 200)}); export it again with export_onnx.py")
