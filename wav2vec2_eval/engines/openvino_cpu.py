# SPDX-License-Identifier: Apache-2.0
"""The other CPU engine, where it is installed: OpenVINO, in float32, bfloat16 or int8.

float32 runs one execution on all threads; bfloat16 and int8 run several at once, each on its own cores, which keeps the
cores busier. test/bench/README.md lists what was tried and measured.

OpenVINO compiles kernels for each new input shape, which takes tens of milliseconds, and caches them, up to 17 MB per
shape. So utterances of a masked model are padded to a few lengths, which changes no answer. Unmasked models see a new
length almost every time, so their kernel cache is off, or memory would grow without end. oneDNN reads that setting once
per process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import SuiteError, one_line
from ..machine.cpu import cpu_features, cpu_name
from ..speech.padding import GEAR_STEP
from . import batching
from .base import Arrays, Conditions, Engine, Result, check_model, failed, unusable
from .model_file import read_metadata
from .narrow_groups import widen
from .openvino_model import ports, read_in_2d, read_model
from .precision import PRECISIONS
from .side_by_side import Executor, run_side_by_side

if TYPE_CHECKING:
    import openvino

INT8_FEATURES = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # fast products of int8 numbers


class Job(NamedTuple):
    """One execution: a batch of utterances, and its inputs stacked, (B, T) each."""

    batch: batching.Batch
    stacked: list[np.ndarray]


class Request(Executor[Job, "list[np.ndarray]"]):
    """One of OpenVINO's inference requests."""

    def __init__(self, request: openvino.InferRequest) -> None:
        self._request = request

    def execute(self, job: Job) -> None:
        try:
            self._request.infer(job.stacked, share_inputs=True)
        except Exception as error:  # OpenVINO's exceptions have no common base
            raise failed("OpenVINO", job.stacked, error) from None

    def outputs(self) -> list[np.ndarray]:
        try:
            return [tensor.data.copy() for tensor in self._request.output_tensors]
        except Exception as error:
            raise SuiteError(f"OpenVINO's outputs cannot be read: {one_line(error)}") from None


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Restore the stack on which this thread handles signals after OpenVINO has replaced it.

    OpenVINO's CPU plugin sets its own signal stack, for processors with AMX (openvino pull request 11894), and unmaps
    that stack when the plugin is closed. If the plugin is closed in another thread, or not in the reverse order of
    opening, the thread keeps a stack that no longer exists, and the next signal, such as Ctrl-C, crashes the process.
    """
    libc = ctypes.CDLL(None)
    stack = ctypes.create_string_buffer(64)  # a stack_t, which has 24 bytes on Linux
    known = hasattr(libc, "sigaltstack") and libc.sigaltstack(None, stack) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(stack, None)


def _fill_tables_of_types() -> None:
    """Let OpenVINO's binding fill its tables of NumPy's types, while there is one thread.

    It fills them when they are first used, and lets other threads run meanwhile. A second thread that uses them then
    waits for the first one without giving up the GIL, which the first one needs: the process stands still for ever.
    """
    import openvino

    tensor = openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
    tensor.element_type.to_dtype()


class OpenVinoEngine(Engine):
    """Runs `in_flight` executions side by side on `num_threads` threads, each of `batch_size` utterances.

    `in_flight` defaults to 1 in float32, and to what OpenVINO suggests in bfloat16 and int8.
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
        if in_flight and in_flight > num_threads:
            raise SuiteError(
                f"--in_flight={in_flight}: expected at most --num_threads={num_threads}, because each execution needs "
                f"a thread"
            )
        try:
            self._open(model_path, num_threads, precision, batch_size, in_flight)
        except (SuiteError, OSError):
            raise
        except Exception as error:  # OpenVINO's exceptions have no common base
            raise unusable(model_path, error) from None

    def _open(self, model_path: Path, num_threads: int, precision: str, batch_size: int, in_flight: int | None) -> None:
        import openvino

        _fill_tables_of_types()
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise SuiteError(f"--precision=bf16: {cpu_name()} has no bfloat16 instructions; use f32")
        model = read_in_2d(core, model_path) if precision == "bf16" else read_model(model_path, precision)
        if precision != "f32":
            widen(model)
        self.inputs, _ = check_model(model_path, *ports(model))
        self.metadata = read_metadata(model_path)
        batching.check_batch_size(batch_size, self.inputs)
        self._batch_size = batch_size
        self._multiple = GEAR_STEP if batching.is_masked(self.inputs) else 1

        # The float parts of an int8 model run in the fastest format that the processor has.
        floats = "bf16" if has_bf16 and precision != "f32" else "f32"
        # Whoever changes what follows raises SETUP in verified.py, so that kept verdicts are not believed any more.
        properties: dict[str, object] = {
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": floats,
        }
        if in_flight or precision == "f32":
            properties["NUM_STREAMS"] = in_flight or 1
        else:
            properties["PERFORMANCE_HINT"] = "THROUGHPUT"
        if self._multiple == 1:
            # OpenVINO 2026.4 fuses attention into one kernel, which saves time on long utterances. If the first
            # utterance has a single frame, that kernel gives wrong answers from then on. Padded utterances have 31.
            properties["SNIPPETS_MODE"] = "DISABLE"
            properties["CPU_RUNTIME_CACHE_CAPACITY"] = 0
            # oneDNN, OpenVINO's library of kernels, reads this when it is first used.
            os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
        compiled = core.compile_model(model, "CPU", properties)
        num_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._executors = [Request(compiled.create_infer_request()) for _ in range(num_requests)]
        slow = cpu_features() and not cpu_features() & INT8_FEATURES
        remark = ", for which this processor has no instructions," if slow else ""
        self.conditions = Conditions(
            engine=f"OpenVINO {openvino.__version__.partition('-')[0]}",
            device=cpu_name(),
            precision=f"int8{remark} and {floats}" if precision == "int8" else PRECISIONS[precision],
            num_threads=num_threads,
            batch_size=batch_size,
            in_flight=num_requests,
        )

    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        """Infer with every request busy; the results come in the order of the utterances.

        With several executions at once, `pure_ns` is a share of the busy time, and `elapsed_ms` is the time from the
        start of an execution to its end.
        """
        batches = batching.batched(utterances, self._batch_size)
        jobs = (Job(batch, batching.stack(batch, self._multiple)) for batch in batches)
        with closing(run_side_by_side(jobs, self._executors)) as executions:
            for execution in executions:
                batch, stacked = execution.job
                elapsed_ms = execution.elapsed_ns / 1e6 if len(self._executors) > 1 else None
                for outputs in batching.split(execution.outputs, batch, stacked):
                    yield Result(outputs, execution.share_ns // len(batch), elapsed_ms=elapsed_ms)

    def close(self) -> None:
        del self._executors
