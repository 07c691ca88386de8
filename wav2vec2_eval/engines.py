# SPDX-License-Identifier: Apache-2.0
"""Inference engines: what one is, and which one a model file needs.

An engine opens a model, names its inputs, and turns a stream of inputs into a stream of outputs with pure inference
times. It is a stream and not a call, so that an engine may overlap copying and computing of different utterances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .errors import SuiteError, one_line
from .manifest import Entry

ENGINES = ("auto", "onnxruntime", "openvino")  # of a CPU
PRECISIONS = ("f32", "bf16", "int8")
PRECISION_KEY = "precision"  # in a model's metadata: "int8" of a quantized one


class TensorSpec(NamedTuple):
    """A model input: its name, element type and shape, None for an axis of any length."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


class Result(NamedTuple):
    """One inference: the outputs in model order, the execution's time, and the device's own reading where there is one.

    `pure_ns` is read from the host's clock, except where several executions are in flight and only the device can tell.
    If they share the host's processor, it is a share of the engine's time, and `own_ms` the one's from start to end.
    """

    outputs: list[np.ndarray]
    pure_ns: int
    device_ms: float | None = None
    own_ms: float | None = None


class Engine(Protocol):
    """Also a context manager that releases the model on leaving."""

    inputs: Sequence[TensorSpec]
    gears: Sequence[tuple[int, ...]] | None  # the axes of all inputs in a row; None: any length that `inputs` allow
    conditions: Mapping[str, Any]  # what a reader of its figures must know: engine, version, device, threads …

    def stream(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        """Infer each utterance's inputs (in model order); yields one Result each, in order."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exception: object) -> None: ...


def open_engine(
    model_path: Path,
    *,
    num_threads: int,
    batch_size: int = 1,
    engine: str = "auto",
    precision: str = "f32",
    in_flight: int | None = None,
    device_id: int = 0,
    sync_infer: bool = True,
    cpu_run: bool = True,
) -> Engine:
    """Open the engine that `model_path` needs, by its suffix: `.om` runs on an NPU, `.onnx` on this host's CPU.

    Of a CPU: `engine` is one of ENGINES, where "auto" is OpenVINO below float32, if it can be imported, and else
    onnxruntime (measured in float32: about as fast, in less memory); `precision` is one of PRECISIONS; `num_threads`,
    `batch_size` utterances in one execution, and `in_flight` executions side by side, which are OpenVINO's alone. Of an
    NPU: `device_id`, `sync_infer` and `cpu_run`. Raises SuiteError for a model that is missing, corrupt or of another
    kind, and for what the host or the engine cannot do.
    """
    if not model_path.is_file():
        raise SuiteError(f"{model_path}: no such model file; run export_onnx.py (and onnx2om.sh) first")
    if model_path.suffix == ".onnx":
        from .openvino_engine import INSTALL, OpenVinoEngine, is_installed

        if engine == "openvino" or (engine == "auto" and precision != "f32" and is_installed()):
            if not is_installed():
                raise SuiteError(f"--engine=openvino: OpenVINO cannot be imported; {INSTALL}")
            return OpenVinoEngine(model_path, num_threads, precision, batch_size, in_flight)
        from .onnx_engine import OnnxEngine

        if (in_flight or 1) > 1:
            raise SuiteError(f"--in_flight={in_flight}: onnxruntime takes one at a time; use --engine=openvino")
        if precision == "bf16":
            raise SuiteError(f"--precision=bf16: onnxruntime computes in float32 on a CPU; OpenVINO does it: {INSTALL}")
        return OnnxEngine(model_path, num_threads, precision, batch_size)
    if model_path.suffix == ".om":
        if batch_size != 1:
            raise SuiteError(f"--batch_size={batch_size}: an .om model takes one utterance at a time; leave it out")
        if engine != "auto" or precision != "f32" or in_flight:
            raise SuiteError(
                f"{model_path}: --engine, --precision and --in_flight are for .onnx models on a CPU; for an .om see "
                f"onnx2om.sh and --sync_infer"
            )
        from .npu_engine import NpuEngine

        return NpuEngine(model_path, device_id, sync_infer, cpu_run)
    raise SuiteError(f"{model_path}: expected a model that ends in .onnx or .om; see --model_path")


def check_precision(model_path: Path, asked: str, stored: str | None) -> None:
    """Raise SuiteError unless a quantized model, and no other, is to run in int8; `stored` is from its metadata."""
    if (asked == "int8") != (stored == "int8"):
        remedy = (
            "export it with --quantize=int8 first"
            if asked == "int8"
            else "give --precision=int8, or the model that is not quantized"
        )
        raise SuiteError(f"{model_path}: --precision={asked}, but the model's weights are {stored or 'f32'}; {remedy}")


def unusable(model_path: Path, error: Exception) -> SuiteError:
    """What a user is told of a model that an engine's library refuses."""
    return SuiteError(f"{model_path}: cannot be loaded ({one_line(error, 200)}); export it again with export_onnx.py")


def check_inputs(engine: Engine, dtypes: Sequence[np.dtype], utterances: Mapping[str, Sequence[Entry]]) -> None:
    """Raise SuiteError unless every utterance's entries fit the model's inputs in number, dtype, fixed axes and gears.

    A float file also fits a float input of another width, to which it is converted when it is read.
    """
    specs = engine.inputs
    names = ", ".join(f"{spec.name} {spec.dtype.name}" for spec in specs)
    same = [spec.dtype == dtype or spec.dtype.kind == dtype.kind == "f" for spec, dtype in zip(specs, dtypes)]
    if len(specs) != len(dtypes) or not all(same):
        found = ",".join(dtype.name for dtype in dtypes)
        raise SuiteError(
            f"--input_dtypes={found}: the model's inputs are {names}; give one dtype for each, in this order"
        )
    for key, entries in utterances.items():
        if len(entries) != len(specs):
            raise SuiteError(
                f"utterance {key}: expected {len(specs)} inputs ({names}), found {len(entries)} manifest lines"
            )
        for entry, spec in zip(entries, specs):
            fits = len(entry.shape) == len(spec.shape) and all(
                fixed in (None, length) for fixed, length in zip(spec.shape, entry.shape)
            )
            if not fits:
                expected = ",".join("*" if axis is None else str(axis) for axis in spec.shape)
                found = ",".join(map(str, entry.shape))
                raise SuiteError(
                    f"utterance {key}: input {spec.name} has shape ({expected}), the manifest says ({found})"
                )
        shape = tuple(axis for entry in entries for axis in entry.shape)
        if engine.gears is not None and shape not in engine.gears:
            gears = ",".join(str(gear[-1]) for gear in engine.gears)
            raise SuiteError(
                f"utterance {key}: {entries[0].shape[-1]} samples are no gear of the model; run preprocess.py with "
                f"--gears={gears}"
            )
