# SPDX-License-Identifier: Apache-2.0
"""What an inference engine is.

An engine opens a model, names its inputs, and turns a stream of inputs into a stream of outputs with pure inference
times. It is a stream and not a call, so that an engine may overlap copying and computing of different utterances.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import SuiteError, one_line
from ..files.tensors import DTYPE, WRITTEN_DTYPE, format_shape

if TYPE_CHECKING:
    from typing_extensions import Self

Arrays = Sequence[np.ndarray]  # the model inputs of one utterance, in model order

# How libraries say that memory was lacking, after long names of source files. A thread needs memory for its stack.
_LACK_OF_MEMORY = re.compile(r"alloc|pthread_create|resource temporarily unavailable", re.IGNORECASE)

_TENSOR = f"a tensor of {' '.join(DTYPE)}, with at least one axis"
_BOTH_OR_NEITHER = "give --attention_mask to both preprocess.py and export_onnx.py, or to neither"


class Port(NamedTuple):
    """What an engine's library says of an input or output of a model. Nothing about it is checked yet.

    `element` is the name of its type in DTYPE if it is one of those. `shape` has None for an axis of any length; it is
    None if the library does not know the number of axes.
    """

    name: str
    element: str
    shape: tuple[int | None, ...] | None


class TensorSpec(NamedTuple):
    """A model input that the suite can fill: its name, element type and shape, None for an axis of any length."""

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

    def __str__(self) -> str:
        return f"{self.engine} on {self.device}, {self.precision}"


class Engine(ABC):
    """One opened model. A context manager that closes it on leaving."""

    inputs: Sequence[TensorSpec]
    gears: Sequence[tuple[int, ...]] | None = None  # the axes of all inputs in a row; None: any length `inputs` allow
    conditions: Conditions
    metadata: Mapping[str, str] = MappingProxyType({})  # of an .onnx; an .om has none

    def stream(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        """Infer each utterance; yields one Result each, in order.

        Raises SuiteError if the model fails, or if an output is not a tensor that a results file can hold.
        """
        with closing(self._infer(utterances)) as results:
            for result in results:
                _check_outputs(result.outputs)
                yield result

    @abstractmethod
    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        """What `stream` does, without the check of the outputs. Raises SuiteError if the model fails."""

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

    def facts(self) -> dict[str, str]:
        """What is known of the engine and its device, for reports of errors: label -> text."""
        return {"engine": self.conditions.engine, "device": self.conditions.device}

    def check_dtypes(self, dtypes: Sequence[np.dtype]) -> None:
        """Raise SuiteError unless files of the types `dtypes` fit the model's inputs.

        Files of floats fit every input, because `convert` converts them. Other files fit an input of their own type.
        """
        fits = [spec.dtype == dtype or dtype.kind == "f" for spec, dtype in zip(self.inputs, dtypes)]
        if len(self.inputs) == len(dtypes) and all(fits):
            return
        of_files = [spec.dtype.name if spec.dtype.kind == "f" else WRITTEN_DTYPE for spec in self.inputs]
        remedy = f"expected --input_dtypes={','.join(of_files)}"
        if any(spec.dtype.kind != "f" for spec in self.inputs):
            remedy += f" for the {WRITTEN_DTYPE} files of preprocess.py, or the inputs' own types for files of those"
        if len(self.inputs) != len(dtypes):
            remedy += f" and as many inputs in the data; {_BOTH_OR_NEITHER}"
        found = ",".join(dtype.name for dtype in dtypes)
        raise SuiteError(f"--input_dtypes={found}: the model's inputs are {self._names()}; {remedy}")

    def convert(self, key: str, arrays: Arrays) -> list[np.ndarray]:
        """The arrays of utterance `key`, whose types `check_dtypes` allows, in the types of the model's inputs.

        Floats become floats of another width, rounded where it is narrower. They become integers or bools only as the
        same numbers: raises SuiteError, with the number, if one would change.
        """
        for array, spec in zip(arrays, self.inputs):
            if array.dtype.kind == "f" and spec.dtype.kind != "f":
                _check_exact(f"utterance {key}: the model's {spec.name}", array, spec.dtype)
        return [array.astype(spec.dtype, copy=False) for array, spec in zip(arrays, self.inputs)]

    def check_shapes(self, key: str, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise SuiteError unless the inputs of utterance `key` fit in number, fixed axes and gears."""
        if len(shapes) != len(self.inputs):
            raise SuiteError(
                f"utterance {key}: expected {len(self.inputs)} inputs ({self._names()}), found {len(shapes)} "
                f"manifest lines; {_BOTH_OR_NEITHER}"
            )
        for shape, spec in zip(shapes, self.inputs):
            fits = len(shape) == len(spec.shape) and all(
                fixed in (None, length) for fixed, length in zip(spec.shape, shape)
            )
            if not fits:
                raise SuiteError(
                    f"utterance {key}: the model's {spec.name} has shape {format_shape(spec.shape)}, the manifest says "
                    f"{format_shape(shape)}; compile the model for the lengths of the data (onnx2om.sh "
                    f"--gears_from=padding_lens.txt), or see --gears of preprocess.py"
                )
        if self.gears is not None and tuple(axis for shape in shapes for axis in shape) not in self.gears:
            lengths = ",".join(str(gear[-1]) for gear in self.gears)
            raise SuiteError(
                f"utterance {key}: {shapes[0][-1]} samples are no gear of the model; run preprocess.py with "
                f"--gears={lengths}"
            )

    def _names(self) -> str:
        return ", ".join(f"{spec.name} {spec.dtype.name}" for spec in self.inputs)


def check_model(path: Path, inputs: Iterable[Port], outputs: Iterable[Port]) -> tuple[list[TensorSpec], list[np.dtype]]:
    """The model's inputs, and the types of its outputs.

    Raises SuiteError unless there are some of both, and each is a tensor with at least one axis, of a type in DTYPE.
    Only an output may have an unknown number of axes.
    """
    input_specs = [_tensor_spec(path, "input", port) for port in inputs]
    output_specs = [_tensor_spec(path, "output", port) for port in outputs]
    if not input_specs or not output_specs:
        raise unusable(path, ValueError(f"it has {len(input_specs)} inputs and {len(output_specs)} outputs"))
    return input_specs, [spec.dtype for spec in output_specs]


def _tensor_spec(path: Path, kind: str, port: Port) -> TensorSpec:
    shape = (None,) if kind == "output" and port.shape is None else port.shape
    if port.element not in DTYPE or not shape:
        found = f"{port.element} without axes" if port.element in DTYPE else port.element
        raise SuiteError(f"{path}: model {kind} {port.name}: expected {_TENSOR}, found {found}; change the model")
    return TensorSpec(port.name, DTYPE[port.element], shape)


def _check_exact(what: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Raise SuiteError, naming `what` is converted, unless every number of an array is one of an integer or bool type.

    Asked before the conversion: what processors make of a float that an integer cannot hold differs among them.
    """
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    numbers = array.astype(np.float64)
    # Not `numbers <= most`: a float may not hold the largest integer, but holds the power of two after it.
    fits = (numbers >= least) & (numbers < float(most + 1)) & (numbers == np.trunc(numbers))
    if not fits.all():
        position = int(np.argmin(fits))
        raise SuiteError(
            f"{what} is {dtype.name}, expected whole numbers from {least} to {most}, found "
            f"{array.flat[position].item()!r} (value {position} of the {array.dtype.name} file); give a model of "
            f"{array.dtype.name}, or write the file as the model needs it"
        )


def _check_outputs(outputs: Sequence[object]) -> None:
    """Raise SuiteError unless every output of an utterance is an array that a results file and the journal can hold."""
    for index, output in enumerate(outputs):
        if not isinstance(output, np.ndarray):
            found = f"a {type(output).__name__}"
        elif output.dtype.name not in DTYPE or not output.size or not output.ndim:
            found = f"{output.dtype.name} {format_shape(output.shape)}"
        else:
            continue
        raise SuiteError(f"model output {index}: expected {_TENSOR} and not empty, found {found}; change the model")


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
    if _is_lack_of_memory(error):
        return SuiteError(f"{model_path}: not enough memory to load it; free some, or see --num_threads")
    return SuiteError(f"{model_path}: cannot be loaded ({one_line(error, 200)}); export it again with export_onnx.py")


def failed(library: str, arrays: Arrays, error: Exception) -> SuiteError:
    """The error for an utterance, or a batch, on which an engine's library fails."""
    shapes = ", ".join(str(array.shape) for array in arrays)
    cause = "not enough memory" if _is_lack_of_memory(error) else one_line(error)
    return SuiteError(f"{library} failed on inputs of shape {shapes}: {cause}")


def _is_lack_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _LACK_OF_MEMORY.search(str(error)) is not None
