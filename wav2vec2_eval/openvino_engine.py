# SPDX-License-Identifier: Apache-2.0
"""The other CPU engine, where it is installed: OpenVINO, in float32, bfloat16 or int8.

In float32 one execution at a time, on all threads. Below it a few side by side, each on cores of its own, which keeps
the cores busier. What was tried, and what it brought: test/bench/README.md.

OpenVINO makes kernels for each shape that it meets, which takes tens of milliseconds, and keeps them, up to 17 MB a
shape. So utterances are padded to a few lengths where that changes nothing, with a masked model. Any other meets a new
length with almost every utterance, and keeps no kernels, or memory would grow without end; that is settled for a whole
process by the first model that it opens.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from . import batches, folders
from .audio import GEAR_STEP
from .cli import cpu_features, cpu_name, signals_deferred
from .engines import PRECISION_KEY, Result, TensorSpec, check_precision, unusable
from .errors import SuiteError, one_line
from .openvino_graph import to_2d
from .results import file_digest
from .tensors import DTYPE
from .timing import SharedTime

INSTALL = "pip install -r requirements-openvino.txt"
CACHE_NAME = "openvino_cache"  # beside the model
CONVERSION = 1  # to be counted up when `_convert` comes to write something else
INT8_FEATURES = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # products of int8, without which it is slow


class Execution(NamedTuple):
    """A batch that has gone through the model, or failed to. Times are nanoseconds of `time.perf_counter_ns`."""

    position: int  # of the batch among all
    inputs: list[np.ndarray]
    outputs: list[np.ndarray] | Exception
    start_ns: int
    end_ns: int


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Undo what OpenVINO does to the stack on which this thread handles signals.

    Its CPU plugin sets one of its own, for processors with AMX (openvino pull request 11894), and unmaps it when it is
    closed. If that happens in another thread, or not in the reverse order of opening, the thread is left with a stack
    that is gone, and the next signal, such as Ctrl-C, crashes the process.
    """
    libc = ctypes.CDLL(None)
    stack = ctypes.create_string_buffer(64)  # a stack_t, which has 24 bytes on Linux
    known = hasattr(libc, "sigaltstack") and libc.sigaltstack(None, stack) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(stack, None)


class OpenVinoEngine:
    """Runs `in_flight` executions side by side on `num_threads` threads, each of `batch_size` utterances.

    `in_flight` is by default 1 in float32, and else what OpenVINO suggests.
    """

    @_signal_stack_kept()
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
        model = _in_2d(core, model_path) if precision == "bf16" else _read(model_path, precision)
        self.inputs = [_spec(node) for node in model.inputs]
        batches.check_batch_size(batch_size, self.inputs)
        self._batch_size = batch_size
        self._multiple = GEAR_STEP if batches.is_masked(self.inputs) else 1

        # What int8 leaves in float is computed in the fastest format that the processor has.
        floats = "bf16" if has_bf16 and precision != "f32" else "f32"
        properties = {
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": floats,
            # OpenVINO 2026.4 fuses attention into a kernel that, if its first utterance has a single frame, answers
            # wrongly ever after. Unfused, it is as fast.
            "SNIPPETS_MODE": "DISABLE",
        }
        if in_flight or precision == "f32":
            properties["NUM_STREAMS"] = in_flight or 1
        else:
            properties["PERFORMANCE_HINT"] = "THROUGHPUT"
        if self._multiple == 1:
            properties["CPU_RUNTIME_CACHE_CAPACITY"] = 0
            # Of the library beneath OpenVINO, which reads it at its first use.
            os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
        try:
            compiled = core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            version = openvino.__version__
            raise SuiteError(f"{model_path}: OpenVINO {version} cannot compile it: {one_line(error)}") from None
        num_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(num_requests)]
        self.gears = None
        slow = cpu_features() and not cpu_features() & INT8_FEATURES
        names = {
            "f32": "float32",
            "bf16": "bfloat16",
            "int8": f"int8{', for which this processor has no instructions,' if slow else ''} and {floats}",
        }
        self.conditions = {
            "engine": f"OpenVINO {openvino.__version__.partition('-')[0]}",
            "device": cpu_name(),
            "num_threads": num_threads,
            "batch_size": batch_size,
            "in_flight": num_requests,
            "precision": names[precision],
        }

    def stream(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        """Infer with every request busy; the results come in the utterances' order.

        With several executions in flight, `pure_ns` is a share of the time in which they ran side by side, and `own_ms`
        an execution from its start to its end. A failure of `utterances`, too, comes in its turn.
        """
        # A signal between two instructions of Python cannot break a SimpleQueue, which is not written in it.
        jobs: queue.SimpleQueue[tuple[int, list[np.ndarray]] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Execution] = queue.SimpleQueue()
        threads = [threading.Thread(target=_work, args=(each, jobs, done), daemon=True) for each in self._requests]
        waiting = enumerate(batches.batched(utterances, self._batch_size))
        running: dict[int, batches.Batch] = {}  # by position
        finished: dict[int, tuple[batches.Batch, Execution, int]] = {}  # by position, with the share of time
        time_shared = SharedTime()
        turn = 0
        failure: Exception | None = None
        try:
            with signals_deferred():
                for thread in threads:
                    thread.start()
            while True:
                while failure is None and len(running) < len(threads):
                    try:
                        position, batch = next(waiting)
                    except StopIteration:
                        break
                    except Exception as error:
                        failure = error
                        break
                    inputs = batches.stack(batch, self._multiple)
                    running[position] = batch
                    time_shared.start(position, time.perf_counter_ns())
                    jobs.put((position, inputs))
                if not running:
                    break
                execution = done.get()
                position = execution.position
                finished[position] = running.pop(position), execution, time_shared.end(position, execution.end_ns)
                while turn in finished:
                    yield from self._results(*finished.pop(turn))
                    turn += 1
            if failure is not None:
                raise failure
        finally:
            with signals_deferred():
                for _ in threads:
                    jobs.put(None)
                for thread in threads:
                    if thread.ident is not None:
                        thread.join()

    def _results(self, batch: batches.Batch, execution: Execution, pure_ns: int) -> list[Result]:
        """One result for each utterance of a batch, which share its time."""
        if isinstance(execution.outputs, Exception):
            shapes = ", ".join(str(array.shape) for array in execution.inputs)
            raise SuiteError(f"OpenVINO failed on inputs of shape {shapes}: {one_line(execution.outputs)}")
        own_ms = (execution.end_ns - execution.start_ns) / 1e6 if len(self._requests) > 1 else None
        outputs = batches.split(execution.outputs, batch, execution.inputs)
        return [Result(own, pure_ns // len(batch), own_ms=own_ms) for own in outputs]

    def __enter__(self) -> OpenVinoEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        del self._requests


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
            end_ns = time.perf_counter_ns()
            outputs = [tensor.data.copy() for tensor in request.output_tensors]
        except Exception as error:  # raised again in the thread that waits for it
            outputs, end_ns = error, time.perf_counter_ns()
        done.put(Execution(position, inputs, outputs, start_ns, end_ns))


def _read(path: Path, precision: str) -> Any:
    from openvino.frontend import FrontEndManager

    onnx_files = FrontEndManager().load_by_framework("onnx")  # others, too, would look at the file, and log errors
    try:
        model = onnx_files.convert(onnx_files.load(str(path)))
    except Exception as error:  # of OpenVINO's own, with no common base
        raise unusable(path, error) from None
    if not model.inputs:  # of an empty file, and of some that are no models at all
        raise unusable(path, ValueError("it has no inputs"))
    stored = ["framework", PRECISION_KEY]  # where OpenVINO puts an ONNX model's metadata
    check_precision(path, precision, model.get_rt_info(stored).value if model.has_rt_info(stored) else None)
    return model


def _in_2d(core: Any, model_path: Path) -> Any:
    """The model in two dimensions: as an earlier run left it beside the model, or converted now.

    The name of what is kept holds a digest of all that it depends on; it replaces older versions. If nothing can be
    written there, it goes to a temporary folder, and stays mapped into memory when that is gone.
    """
    import openvino

    folder = model_path.parent / CACHE_NAME
    made_of = f"{file_digest(model_path)} {openvino.__version__} {CONVERSION}"
    path = folder / f"{model_path.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.xml"
    try:
        with folders.locked(folder, wait=True):
            try:
                return core.read_model(path)
            except RuntimeError:  # there is none, or it is not whole
                pass
            work = folder / "new"
            shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
            try:
                _convert(core, model_path, work / path.name)
                for old in folder.glob(f"{escape(model_path.stem)}-{'?' * 16}.*"):
                    old.unlink()
                for suffix in (".bin", ".xml"):
                    (work / path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return core.read_model(path)
    except OSError:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / path.name
            _convert(core, model_path, path)
            return core.read_model(path)


def _convert(core: Any, model_path: Path, path: Path) -> None:
    import onnx
    import openvino

    _read(model_path, "bf16")  # to refuse what cannot be used before anything is written
    path.parent.mkdir(exist_ok=True)
    proto = onnx.load(model_path)
    to_2d(proto)
    rewritten = path.with_suffix(".onnx")
    onnx.save(proto, rewritten)  # to be mapped into memory
    del proto
    model = core.read_model(rewritten)
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # that the disk is full, for example
        raise OSError(f"{path}: cannot be written: {one_line(error)}") from None
    rewritten.unlink()


def _spec(node: Any) -> TensorSpec:
    """What OpenVINO says of a model input."""
    element = node.element_type.to_dtype().name
    if element not in DTYPE:
        raise SuiteError(f"model input {node.any_name}: expected a tensor of {' '.join(DTYPE)}, found {element}")
    shape = tuple(axis.get_length() if axis.is_static else None for axis in node.partial_shape)
    return TensorSpec(node.any_name, DTYPE[element], shape)
