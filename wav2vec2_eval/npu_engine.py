# SPDX-License-Identifier: Apache-2.0
"""The Ascend engine: a compiled .om model on an NPU, through pyACL.

Written against the documented contract, and proven on an emulator of it; not yet run on a device.

A model with gears was compiled for a list of input shapes (ATC's --dynamic_dims). Before each execution the gear is set
on the dataset of input buffers; the shape must be a gear exactly. All buffers are allocated once, at the largest gear's
size, and only the bytes of the gear in use are copied.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .acl_runtime import Acl
from .engines import Result, TensorSpec
from .errors import SuiteError
from .tensors import DTYPE
from .timing import MeasureTime

# Values of the C headers; pyACL itself exports no constants.
MALLOC_HUGE_FIRST = 0
HOST_TO_DEVICE = 1
DEVICE_TO_HOST = 2
# aclDataType -> name in DTYPE.
ACL_DTYPE = {
    0: "float32",
    1: "float16",
    2: "int8",
    3: "int32",
    4: "uint8",
    6: "int16",
    7: "uint16",
    8: "uint32",
    9: "int64",
    10: "uint64",
    11: "float64",
    12: "bool",
}
# The input that ATC adds to a model with gears. The library fills it when a gear is set.
SELECTOR = "ascend_mbatch_shape_data"
SELECTOR_ELEMENT_BYTES = {3: 4, 9: 8}  # int32 as documented; the library's code knows int64, too
# Whether waiting for an event tells that an earlier task of its stream failed is not documented; waiting for the stream
# does. So results are handed out only after that, once for this many.
VOUCHED_TOGETHER = 16


class Slot(NamedTuple):
    """All that one execution in flight needs. `device` and `host` addresses are in input, then output order."""

    inputs: int  # dataset
    outputs: int  # dataset
    device_inputs: list[int]
    device_outputs: list[int]
    host_inputs: list[int]  # page-locked; empty in a synchronous engine, which copies from and to NumPy's memory
    host_outputs: list[int]
    started: int  # events; 0 in a synchronous engine
    ended: int
    copied: int


class InFlight(NamedTuple):
    """A queued execution."""

    slot: Slot
    shapes: list[tuple[int, ...]]  # of the outputs
    pure_ns: int | None  # by the host clock, if it was read for this execution


class NpuEngine:
    """One model on one NPU.

    `sync_infer` executes utterance by utterance. Otherwise two are in flight, so that the device finds the next one
    queued when it has finished one; but one with `cpu_run` False, which wants an idle device at each clock reading.
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
        num_slots = 1 if self._sync or self._cpu_run is False else 2
        self._stream = 0 if self._sync else acl.own("acl.rt.create_stream", release="acl.rt.destroy_stream")
        num_events = 0 if self._sync else 3 * num_slots
        events = [acl.own("acl.rt.create_event", release="acl.rt.destroy_event") for _ in range(num_events)]

        # The description is created before the model is loaded, since it is destroyed after the model is unloaded.
        self._desc = acl.own("acl.mdl.create_desc", release="acl.mdl.destroy_desc")
        self._model = acl.own("acl.mdl.load_from_file", str(model_path), release="acl.mdl.unload")
        acl.call("acl.mdl.get_desc", self._desc, self._model)
        self._read_description()
        self._slots = [self._make_slot(events[3 * index : 3 * index + 3]) for index in range(num_slots)]
        if not self._sync:
            acl.before_release("acl.rt.synchronize_stream", self._stream)
        home = os.environ.get("ASCEND_TOOLKIT_HOME")  # its real path names the version
        self.conditions = {
            "engine": f"pyACL, CANN at {os.path.realpath(home) if home else 'an unknown place'}",
            "device": f"{acl.get('acl.get_soc_name') or 'unknown NPU'}, device {device_id}",
            "precision": "as compiled by ATC",
            "num_threads": None,
            "gears": len(self.gears or ()),
        }

    def _read_description(self) -> None:
        """Learn the model's inputs, outputs and gears."""
        acl, desc = self._acl, self._desc
        count = acl.get("acl.mdl.get_num_inputs", desc)
        names = [acl.get("acl.mdl.get_input_name_by_index", desc, index) for index in range(count)]
        self._selector = names.index(SELECTOR) if SELECTOR in names else None
        self._real_inputs = [index for index in range(count) if index != self._selector]
        self.inputs = [
            TensorSpec(
                names[index],
                _dtype(names[index], acl.get("acl.mdl.get_input_data_type", desc, index)),
                tuple(None if axis < 0 else axis for axis in acl.call("acl.mdl.get_input_dims", desc, index)["dims"]),
            )
            for index in self._real_inputs
        ]
        self._input_sizes = [acl.get("acl.mdl.get_input_size_by_index", desc, index) for index in range(count)]
        outputs = range(acl.get("acl.mdl.get_num_outputs", desc))
        self._output_sizes = [acl.get("acl.mdl.get_output_size_by_index", desc, index) for index in outputs]
        self._output_dtypes = [
            _dtype(f"output {index}", acl.get("acl.mdl.get_output_data_type", desc, index)) for index in outputs
        ]
        # Of the largest gear, if there are gears.
        self._output_shapes = [tuple(acl.call("acl.mdl.get_output_dims", desc, index)["dims"]) for index in outputs]
        self.gears = None
        if self._selector is not None:
            self._check_selector()
            self.gears = self._read_gears()
        elif any(None in spec.shape for spec in self.inputs):
            raise SuiteError(
                "the model has open input shapes but no gears (atc names such files *_linux_<arch>.om); "
                "compile it with onnx2om.sh"
            )

    def _check_selector(self) -> None:
        """The library takes the element size from the selector's size alone; the graph must read what it writes."""
        count = sum(spec.shape.count(None) for spec in self.inputs)
        size = self._input_sizes[self._selector]
        code = self._acl.get("acl.mdl.get_input_data_type", self._desc, self._selector)
        written = 8 if size >= 8 * count else 4
        if SELECTOR_ELEMENT_BYTES.get(code) != written or size < written * count:
            raise SuiteError(
                f"the input {SELECTOR} has {size} bytes of type {code}, expected {4 * count} of type 3 (int32), "
                f"so no gear can be chosen; compile the model again, with onnx2om.sh"
            )

    def _read_gears(self) -> list[tuple[int, ...]]:
        """Each gear: the axes of all real inputs in a row."""
        count = self._acl.call("acl.mdl.get_input_dynamic_gear_count", self._desc, -1)
        if not count:
            raise SuiteError("the model's gears are not those of --dynamic_dims; compile it with onnx2om.sh")
        gears = self._acl.call("acl.mdl.get_input_dynamic_dims", self._desc, -1, count)
        return [tuple(gear["dims"]) for gear in gears]

    def _make_slot(self, events: Sequence[int]) -> Slot:
        acl = self._acl

        def device(size: int) -> int:
            return acl.own("acl.rt.malloc", size, MALLOC_HUGE_FIRST, release="acl.rt.free")

        def host(size: int) -> int:
            return acl.own("acl.rt.malloc_host", size, release="acl.rt.free_host")

        # Exactly the reported size: the library takes a larger selector for one of 8-byte elements.
        device_inputs = [device(size) for size in self._input_sizes]
        device_outputs = [device(size) for size in self._output_sizes]
        host_inputs = [] if self._sync else [host(self._input_sizes[index]) for index in self._real_inputs]
        host_outputs = [] if self._sync else [host(size) for size in self._output_sizes]
        # Both datasets before their buffers, which are released first.
        inputs = acl.own("acl.mdl.create_dataset", release="acl.mdl.destroy_dataset")
        outputs = acl.own("acl.mdl.create_dataset", release="acl.mdl.destroy_dataset")
        for dataset, addresses, sizes in (
            (inputs, device_inputs, self._input_sizes),
            (outputs, device_outputs, self._output_sizes),
        ):
            for address, size in zip(addresses, sizes):
                buffer = acl.own("acl.create_data_buffer", address, size, release="acl.destroy_data_buffer")
                acl.call("acl.mdl.add_dataset_buffer", dataset, buffer)
        started, ended, copied = events or (0, 0, 0)
        return Slot(inputs, outputs, device_inputs, device_outputs, host_inputs, host_outputs, started, ended, copied)

    def stream(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        """Infer each utterance. The time is that of the execution alone, without copies.

        It is the host clock's, except with two executions in flight: then no reading of the host clock belongs to one
        of them, and the device's own events around the execution give its time.
        """
        return self._stream_sync(utterances) if self._sync else self._stream_async(utterances)

    def _stream_sync(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        acl, (slot,) = self._acl, self._slots
        clock: dict[str, int] = {}
        for arrays in utterances:
            shapes = self._set_gear(slot, arrays)
            for index, array in zip(self._real_inputs, arrays):
                source = np.ascontiguousarray(array)
                acl.call(
                    "acl.rt.memcpy",
                    slot.device_inputs[index],
                    self._input_sizes[index],
                    source.ctypes.data,
                    source.nbytes,
                    HOST_TO_DEVICE,
                )
            with MeasureTime(clock, "pure_ns", self._cpu_run, self._synchronize_device):
                acl.call("acl.mdl.execute", self._model, slot.inputs, slot.outputs)
            outputs = [np.empty(shape, dtype) for shape, dtype in zip(shapes, self._output_dtypes)]
            for address, output in zip(slot.device_outputs, outputs):
                acl.call("acl.rt.memcpy", output.ctypes.data, output.nbytes, address, output.nbytes, DEVICE_TO_HOST)
            yield Result(outputs, clock["pure_ns"])

    def _stream_async(self, utterances: Iterable[Sequence[np.ndarray]]) -> Iterator[Result]:
        free = deque(self._slots)
        in_flight: deque[InFlight] = deque()
        finished: list[Result] = []  # not vouched for

        def collect() -> None:
            run = in_flight.popleft()
            finished.append(self._collect(run))
            free.append(run.slot)

        def vouch() -> list[Result]:
            """Hand over what is finished if the stream knows of no failure. This waits for what is in flight, too."""
            self._acl.call("acl.rt.synchronize_stream", self._stream)
            vouched = finished.copy()
            finished.clear()
            return vouched

        for arrays in utterances:
            if not free:
                collect()
            vouched = vouch() if len(finished) >= VOUCHED_TOGETHER else []
            in_flight.append(self._queue(free.popleft(), arrays))
            if not self._cpu_run:
                collect()
            yield from vouched  # while the device has its next work
        while in_flight:
            collect()
        yield from vouch()

    def _queue(self, slot: Slot, arrays: Sequence[np.ndarray]) -> InFlight:
        """Queue copies and execution of one utterance; nothing here waits, unless for an idle device by `cpu_run`."""
        acl, stream = self._acl, self._stream
        # Buffers and datasets are this slot's own, and its last execution has been collected.
        shapes = self._set_gear(slot, arrays)
        for address, array in zip(slot.host_inputs, arrays):
            _view(address, array.shape, array.dtype)[...] = array
        for index, address, array in zip(self._real_inputs, slot.host_inputs, arrays):
            target, size = slot.device_inputs[index], self._input_sizes[index]
            acl.call("acl.rt.memcpy_async", target, size, address, array.nbytes, HOST_TO_DEVICE, stream)
        clock: dict[str, int] = {}
        if self._cpu_run:
            self._execute_async(slot)
        else:
            with MeasureTime(clock, "pure_ns", False, self._synchronize_device):
                self._execute_async(slot)
        for source, address, shape, dtype in zip(slot.device_outputs, slot.host_outputs, shapes, self._output_dtypes):
            size = math.prod(shape) * dtype.itemsize
            acl.call("acl.rt.memcpy_async", address, size, source, size, DEVICE_TO_HOST, stream)
        acl.call("acl.rt.record_event", slot.copied, stream)
        return InFlight(slot, shapes, clock.get("pure_ns"))

    def _execute_async(self, slot: Slot) -> None:
        acl, stream = self._acl, self._stream
        acl.call("acl.rt.record_event", slot.started, stream)
        acl.call("acl.mdl.execute_async", self._model, slot.inputs, slot.outputs, stream)
        acl.call("acl.rt.record_event", slot.ended, stream)

    def _collect(self, run: InFlight) -> Result:
        """Wait for one execution and take its outputs out of the slot."""
        acl, slot = self._acl, run.slot
        for event in (slot.started, slot.ended, slot.copied):  # the time needs the first two waited for, too
            acl.call("acl.rt.synchronize_event", event)  # releases the GIL while it waits
        device_ms = acl.call("acl.rt.event_elapsed_time", slot.started, slot.ended)
        outputs = [
            _view(address, shape, dtype).copy()
            for address, shape, dtype in zip(slot.host_outputs, run.shapes, self._output_dtypes)
        ]
        pure_ns = round(device_ms * 1e6) if run.pure_ns is None else run.pure_ns
        return Result(outputs, pure_ns, device_ms)

    def _set_gear(self, slot: Slot, arrays: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
        """Choose the gear that the arrays' shapes are; returns the outputs' shapes in it."""
        acl = self._acl
        for index, array in zip(self._real_inputs, arrays):  # `check_inputs` has told the user; this guards memory
            if array.nbytes > self._input_sizes[index]:
                raise SuiteError(f"an input of shape {array.shape} is longer than the model's; see --model_path")
        if self._selector is None:
            return self._output_shapes
        dims = [axis for array in arrays for axis in array.shape]
        gear = {"name": "", "dimCount": len(dims), "dims": dims}
        acl.call("acl.mdl.set_input_dynamic_dims", self._model, slot.inputs, self._selector, gear)
        # Read now: a later gear of this model, through whichever dataset, would replace the answer.
        outputs = range(len(self._output_shapes))
        return [tuple(acl.call("acl.mdl.get_cur_output_dims", self._desc, index)["dims"]) for index in outputs]

    def _synchronize_device(self) -> None:
        self._acl.call("acl.rt.synchronize_device")

    def __enter__(self) -> NpuEngine:
        return self

    def __exit__(self, exception_type: object, *_: object) -> None:
        failures = self._acl.release_all()
        if failures and exception_type is None:
            raise failures[0]


def _dtype(name: str, code: int) -> np.dtype:
    if code not in ACL_DTYPE:
        raise SuiteError(f"{name} of the model has the type {code}, which NumPy lacks; compile it with another type")
    return DTYPE[ACL_DTYPE[code]]


def _view(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Page-locked host memory as an array, without a copy."""
    size = math.prod(shape) * dtype.itemsize
    return np.frombuffer((ctypes.c_byte * size).from_address(address), dtype=dtype).reshape(shape)
