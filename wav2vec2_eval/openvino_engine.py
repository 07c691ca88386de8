# SPDX-License-Identifier: Apache-2.0
"""The faster CPU engine, where it is installed: OpenVINO, in float32, bfloat16 or int8.

In float32 one utterance at a time, on all threads. Otherwise a few in flight, each on cores of its own, which keeps the
cores busier. What was tried, and what it brought: test/bench/README.md.

OpenVINO makes kernels for each shape that it meets, which takes tens of milliseconds, and keeps them, up to 17 MB a
shape. So utterances are padded to a few lengths where that changes nothing, with a masked model; any other meets a new
length with almost every utterance, and keeps no kernels, or its memory would grow without end.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import batches
from .audio import GEAR_STEP
from .cli import cpu_features, cpu_name
from .engines import Result, TensorSpec, check_precision
from .errors import SuiteError
from .openvino_graph import to_2d
from .results import file_digest
from .tensors import DTYPE

CACHE_NAME = "openvino_cache"  # beside the model
INT8_FEATURES = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # products of int8, without which it is slow


class Execution(NamedTuple):
    """A batch that has gone through the model, or failed to."""

    position: int  # of the batch among all
    inputs: list[np.ndarray]
    outputs: list[np.ndarray] | Exception
    start_ns: int
    end_ns: int


class OpenVinoEngine:
    """Runs `in_flight` batches at a time on `num_threads` threads; the default is one in float32, else OpenVINO's."""

    def __init__(
        self,
        model_path: Path,
        num_threads: int,
        precision: str = "f32",
        batch_size: int = 1,
        in_flight: int | None = None,
    ) -> None:
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise SuiteError(f"--precision=bf16: {cpu_name()} has no bfloat16 instructions; use f32")
        # What int8 leaves in float is computed in the fastest format that the processor has.
        floats = "bf16" if has_bf16 and precision != "f32" else "f32"
        properties = {
            "PERFORMANCE_HINT": "LATENCY" if precision == "f32" else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": floats,
            # OpenVINO 2026.4 fuses attention into a kernel that, if its first utterance has a single frame, answers
            # wrongly ever after. Unfused, it is as fast.
            "SNIPPETS_MODE": "DISABLE",
        }
        if in_flight:
            properties["NUM_STREAMS"] = in_flight
        with ExitStack() as temporary:
            path = _in_2d(model_path, temporary) if precision == "bf16" else model_path
            try:
                model = core.read_model(path)
                quantized = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
                check_precision(model_path, precision, "int8" if quantized else None)
                self.inputs = [_spec(node) for node in model.inputs]
                batches.check_batch_size(batch_size, self.inputs)
                self._multiple = GEAR_STEP if batches.is_masked(self.inputs) else 1
                if self._multiple == 1:
                    properties["CPU_RUNTIME_CACHE_CAPACITY"] = 0
                    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = (
                        "0"  # of the library below it, read at its first use
                    )
                compiled = core.compile_model(model, "CPU", properties)
            except RuntimeError as error:
                raise _unusable(model_path, error) from None
            self._temporary = temporary.pop_all()  # its files are mapped into memory
        self._batch_size = batch_size
        num_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(num_requests)]
        self.gears = None
        int8 = "int8" if cpu_features() & INT8_FEATURES else "int8 (of which this processor has no products)"
        self.conditions = {
            "engine": f"OpenVINO {openvino.__version__.partition('-')[0]}",
            "device": cpu_name(),
            "num_threads": num_threads,
            "batch_size": batch_size,
            "in_flight": num_requests,
            "precision": {"f32": "float32", "bf16": "bfloat16", "int8": f"{int8}, the rest {floats}"}[precision],
        }

    def stream(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        """Infer with every stream busy; the results come in the utterances' order.

        With several in flight, an utterance's `pure_ns` is the engine's time from the end before it to its own, so that
        all of them add up to the time in which the engine worked. `own_ms` is the execution from its start to its end.
        """
        jobs: queue.SimpleQueue[tuple[int, list[np.ndarray]] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Execution] = queue.SimpleQueue()
        threads = [threading.Thread(target=_work, args=(each, jobs, done), daemon=True) for each in self._requests]
        for thread in threads:
            thread.start()
        waiting = enumerate(batches.batched(utterances, self._batch_size))
        running: dict[int, batches.Batch] = {}  # by position
        finished: dict[int, tuple[batches.Batch, Execution, int]] = {}
        turn = busy_since_ns = 0
        try:
            while True:
                while len(running) < len(threads) and (entry := next(waiting, None)):
                    if not running:
                        busy_since_ns = time.perf_counter_ns()
                    position, batch = entry
                    running[position] = batch
                    jobs.put((position, batches.stack(batch, self._multiple)))
                if not running:
                    return
                execution = done.get()
                batch = running.pop(execution.position)
                end_ns = max(busy_since_ns, execution.end_ns)  # two that end together may come in either order
                finished[execution.position] = batch, execution, end_ns - busy_since_ns
                busy_since_ns = end_ns
                while turn in finished:
                    yield from self._results(*finished.pop(turn))
                    turn += 1
        finally:
            for _ in threads:
                jobs.put(None)
            for thread in threads:
                thread.join()

    def _results(self, batch: batches.Batch, execution: Execution, pure_ns: int) -> list[Result]:
        """One result for each utterance of a batch, which share its time."""
        if isinstance(execution.outputs, Exception):
            shapes = ", ".join(str(array.shape) for array in execution.inputs)
            raise SuiteError(f"OpenVINO failed on inputs of shape {shapes}: {_reason(execution.outputs)}")
        own_ms = (execution.end_ns - execution.start_ns) / 1e6 if len(self._requests) > 1 else None
        outputs = batches.split(execution.outputs, batch, execution.inputs)
        return [Result(own, pure_ns // len(batch), own_ms=own_ms) for own in outputs]

    def __enter__(self) -> OpenVinoEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        del self._requests
        self._temporary.close()


def is_installed() -> bool:
    """Whether OpenVINO can be imported here; its wheels need a recent C library."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def _work(request: Any, jobs: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
    """Run jobs through one infer request until there comes None."""
    while (job := jobs.get()) is not None:
        position, inputs = job
        start_ns = time.perf_counter_ns()
        try:
            request.infer(inputs, share_inputs=True)
            outputs = [tensor.data.copy() for tensor in request.output_tensors]
        except Exception as error:  # raised again in the thread that waits for it
            outputs = error
        done.put(Execution(position, inputs, outputs, start_ns, time.perf_counter_ns()))


def _in_2d(model_path: Path, temporary: ExitStack) -> Path:
    """The model in OpenVINO's format and in two dimensions: as an earlier run left it, or converted now.

    It is kept beside the model, under a name that holds a digest of the model's content, in place of older versions. If
    nothing can be written there, it goes to a folder that ends with `temporary`.
    """
    folder = model_path.parent / CACHE_NAME
    path = folder / f"{model_path.stem}-{file_digest(model_path)[:16]}.xml"
    if path.exists():
        return path
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _convert(model_path, Path(work) / path.name)
            for old in folder.glob(f"{escape(model_path.stem)}-{'?' * 16}.*"):
                old.unlink(missing_ok=True)
            for suffix in (".bin", ".xml"):  # the one that is looked for comes last
                (Path(work) / path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
    except OSError:
        path = Path(temporary.enter_context(tempfile.TemporaryDirectory())) / path.name
        _convert(model_path, path)
    return path


def _convert(model_path: Path, path: Path) -> None:
    import onnx
    import openvino

    try:
        proto = onnx.load(model_path)
        to_2d(proto)
        rewritten = path.with_suffix(".onnx")
        onnx.save(proto, rewritten)  # to be mapped into memory
        del proto
        openvino.save_model(openvino.Core().read_model(rewritten), path, compress_to_fp16=False)
        rewritten.unlink()
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError, OpenVINO's RuntimeError, what another kind of graph leads to
        raise _unusable(model_path, error) from None


def _unusable(model_path: Path, error: Exception) -> SuiteError:
    return SuiteError(f"{model_path}: cannot be loaded ({_reason(error)}); export it again with export_onnx.py")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _spec(node: Any) -> TensorSpec:
    """What OpenVINO says of a model input."""
    element = node.element_type.to_dtype().name
    if element not in DTYPE:
        raise SuiteError(f"model input {node.any_name}: expected a tensor of {' '.join(DTYPE)}, found {element}")
    shape = tuple(axis.get_length() if axis.is_static else None for axis in node.partial_shape)
    return TensorSpec(node.any_name, DTYPE[element], shape)
