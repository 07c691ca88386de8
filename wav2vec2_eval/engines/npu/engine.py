# SPDX-License-Identifier: Apache-2.0
"""The Ascend engine: a compiled .om model on an NPU, through pyACL.

Written against the documented contract, and proven on an emulator of it; not yet run on a device. All buffers are
allocated once, and only the bytes of the gear in use are copied. The order of calls:
https://www.hiascend.com/document/detail/en/canncommercial/850/appdevg/acldevg/aclpythondevg_0007.html
One model in one context, one execution per dataset: https://www.hiascend.com/document/detail/en/canncommercial/850/API/appdevgapi/aclcppdevg_03_0299.html
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base import Arrays, Conditions, Engine, Result
from ..clock import MeasureTime
from .acl_codes import DEVICE_TO_HOST, HOST_TO_DEVICE
from .acl_runtime import Acl, AclError
from .facts import cann_home, device_facts
from .om_model import OmModel, Shape
from .slots import Events, Slot, make_events, make_slot, view

# No document says whether waiting for an event reports that an earlier task of its stream failed; waiting for the
# stream does. So results are released in groups of this size, after a stream synchronisation.
VOUCHED_TOGETHER = 16


class Queued(NamedTuple):
    """An execution that waits or runs on the device. Times are of the host's clock."""

    slot: Slot
    events: Events
    shapes: list[Shape]  # of the outputs
    queued_ns: int  # when
    pure_ns: int | None  # how long it took, if that was measured around it


class Collected(NamedTuple):
    """An execution whose outputs are here. Only its stream can tell whether they are good, and how long it took."""

    outputs: list[np.ndarray]
    events: Events
    pure_ns: int | None
    elapsed_ns: int  # since it was queued, or since the execution before it was collected, on the host's clock


class NpuEngine(Engine):
    """One model on one NPU.

    Sync (`sync_infer`) executes one utterance at a time. Async keeps two executions queued, so the device need not wait
    for the host; every 16 results the queue is drained once, to learn of failures. With `cpu_run=False` it queues one
    execution, because the clock needs an idle device.
    """

    def __init__(self, model_path: Path, device_id: int, sync_infer: bool, cpu_run: bool) -> None:
        self._acl = Acl()
        self._sync = sync_infer
        self._cpu_run = cpu_run
        try:
            self._open(model_path, device_id)
        except BaseException:
            self._acl.release_all()
            raise

    def _open(self, model_path: Path, device_id: int) -> None:
        acl = self._acl
        acl.open_device(device_id)
        num_slots = 1 if self._sync or not self._cpu_run else 2
        self._stream = 0 if self._sync else acl.own("acl.rt.create_stream", release="acl.rt.destroy_stream")
        # No events are recorded again before their time was read.
        self._events = [] if self._sync else [make_events(acl) for _ in range(num_slots + VOUCHED_TOGETHER)]
        self._has_device_times = True
        self._model = OmModel(acl, model_path)
        self._slots = [make_slot(acl, self._model, page_locked=not self._sync) for _ in range(num_slots)]
        if not self._sync:
            acl.before_release("acl.rt.synchronize_stream", self._stream)
        self.inputs, self.gears = self._model.inputs, self._model.gears
        self.conditions = Conditions(
            engine=f"pyACL, CANN at {cann_home() or 'an unknown place'}",
            device=f"{acl.get('acl.get_soc_name') or 'unknown NPU'}, device {device_id}",
            precision="as compiled by ATC",
            gears=len(self.gears) if self.gears else None,
        )

    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        """Infer each utterance. Its time is the execution time, without copies.

        The host clock measures it. With two executions queued, the device's events around each execution measure it,
        because the host cannot tell the two apart.
        """
        return self._stream_sync(utterances) if self._sync else self._stream_async(utterances)

    def facts(self) -> dict[str, str]:
        return device_facts(self._acl)

    def close(self) -> None:
        failures = self._acl.release_all()
        if failures:
            raise failures[0]

    def _stream_sync(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        acl, model, (slot,) = self._acl, self._model, self._slots
        clock: dict[str, int] = {}
        for arrays in utterances:
            shapes = model.set_gear(slot.inputs, arrays)
            for index, array in zip(model.real_inputs, arrays):
                source = np.ascontiguousarray(array)
                target, size = slot.device_inputs[index], model.input_sizes[index]
                acl.call("acl.rt.memcpy", target, size, source.ctypes.data, source.nbytes, HOST_TO_DEVICE)
            with MeasureTime(clock, "pure_ns", self._cpu_run, self._synchronize_device):
                acl.call("acl.mdl.execute", model.handle, slot.inputs, slot.outputs)
            outputs: list[np.ndarray] = [np.empty(shape, dtype) for shape, dtype in zip(shapes, model.output_dtypes)]
            for address, output in zip(slot.device_outputs, outputs):
                acl.call("acl.rt.memcpy", output.ctypes.data, output.nbytes, address, output.nbytes, DEVICE_TO_HOST)
            yield Result(outputs, clock["pure_ns"])

    def _stream_async(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        free_slots, free_events = deque(self._slots), deque(self._events)
        queued: deque[Queued] = deque()
        finished: list[Collected] = []  # the stream may still report a failure
        last_ns = 0

        def collect() -> None:
            nonlocal last_ns
            execution = queued.popleft()
            outputs = self._collect(execution)
            since_ns, last_ns = max(execution.queued_ns, last_ns), time.perf_counter_ns()
            finished.append(Collected(outputs, execution.events, execution.pure_ns, last_ns - since_ns))
            free_slots.append(execution.slot)

        def vouch() -> list[Result]:
            """Hand over the finished results unless the stream reports a failure. Waits for queued executions, too."""
            self._acl.call("acl.rt.synchronize_stream", self._stream)
            vouched = [self._time(execution) for execution in finished]
            free_events.extend(execution.events for execution in finished)
            finished.clear()
            return vouched

        for arrays in utterances:
            if not free_slots:
                collect()
            vouched = vouch() if len(finished) >= VOUCHED_TOGETHER else []
            queued.append(self._queue(free_slots.popleft(), free_events.popleft(), arrays))
            if not self._cpu_run:
                collect()
            yield from vouched  # while the device has its next work
        while queued:
            collect()
        yield from vouch()

    def _queue(self, slot: Slot, events: Events, arrays: Arrays) -> Queued:
        """Queue copies and execution of one utterance. Nothing here waits, except the clock of `cpu_run=False`."""
        acl, model, stream = self._acl, self._model, self._stream
        # Buffers and datasets belong to this slot alone, and its last execution has been collected.
        shapes = model.set_gear(slot.inputs, arrays)
        for address, array in zip(slot.host_inputs, arrays):
            view(address, array.shape, array.dtype)[...] = array
        for index, address, array in zip(model.real_inputs, slot.host_inputs, arrays):
            target, size = slot.device_inputs[index], model.input_sizes[index]
            acl.call("acl.rt.memcpy_async", target, size, address, array.nbytes, HOST_TO_DEVICE, stream)
        clock: dict[str, int] = {}
        queued_ns = time.perf_counter_ns()
        if self._cpu_run:
            self._execute_async(slot, events)
        else:
            with MeasureTime(clock, "pure_ns", False, self._synchronize_device):
                self._execute_async(slot, events)
        for source, address, shape, dtype in zip(slot.device_outputs, slot.host_outputs, shapes, model.output_dtypes):
            size = math.prod(shape) * dtype.itemsize
            acl.call("acl.rt.memcpy_async", address, size, source, size, DEVICE_TO_HOST, stream)
        acl.call("acl.rt.record_event", events.copied, stream)
        return Queued(slot, events, shapes, queued_ns, clock.get("pure_ns"))

    def _execute_async(self, slot: Slot, events: Events) -> None:
        acl, stream = self._acl, self._stream
        acl.call("acl.rt.record_event", events.started, stream)
        acl.call("acl.mdl.execute_async", self._model.handle, slot.inputs, slot.outputs, stream)
        acl.call("acl.rt.record_event", events.ended, stream)

    def _collect(self, execution: Queued) -> list[np.ndarray]:
        """Wait for one execution and take its outputs out of the slot."""
        self._acl.call("acl.rt.synchronize_event", execution.events.copied)  # releases the GIL while it waits
        return [
            view(address, shape, dtype).copy()
            for address, shape, dtype in zip(execution.slot.host_outputs, execution.shapes, self._model.output_dtypes)
        ]

    def _time(self, execution: Collected) -> Result:
        """The result with its times. Their stream was waited for: the documented order for the time between events.

        A device that gives no times costs no result; the host's clock then gives the time from one to the next.
        """
        device_ms = None
        if self._has_device_times:
            try:
                started, ended = execution.events.started, execution.events.ended
                device_ms = self._acl.call("acl.rt.event_elapsed_time", started, ended)
            except AclError as error:
                self._has_device_times = False
                print(f"the device gives no execution times, so they are taken from the host's clock ({error})")
        measured_ns = execution.elapsed_ns if device_ms is None else round(device_ms * 1e6)
        return Result(execution.outputs, measured_ns if execution.pure_ns is None else execution.pure_ns, device_ms)

    def _synchronize_device(self) -> None:
        self._acl.call("acl.rt.synchronize_device")
