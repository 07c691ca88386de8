# SPDX-License-Identifier: Apache-2.0
"""Slots: the buffers of one execution, allocated once at the size of the largest gear.

Rules of memory: https://www.hiascend.com/document/detail/en/canncommercial/850/API/appdevgapi/aclpythondevg_01_0116.html
"""

from __future__ import annotations

import ctypes
import math
from typing import NamedTuple

import numpy as np

from .acl_codes import MALLOC_HUGE_FIRST
from .acl_runtime import Acl
from .om_model import OmModel, Shape


class Events(NamedTuple):
    """Marks in a stream: before the execution, after it, and after its outputs were copied to the host."""

    started: int
    ended: int
    copied: int


class Slot(NamedTuple):
    """Everything that one execution needs. Addresses are in the order of the model's inputs or outputs."""

    inputs: int  # dataset
    outputs: int  # dataset
    device_inputs: list[int]
    device_outputs: list[int]
    host_inputs: list[int]  # page-locked; empty in a synchronous engine, which copies from and to NumPy's memory
    host_outputs: list[int]


def make_events(acl: Acl) -> Events:
    """Three new events, owned by `acl`."""
    return Events(*(acl.own("acl.rt.create_event", release="acl.rt.destroy_event") for _ in Events._fields))


def make_slot(acl: Acl, model: OmModel, page_locked: bool) -> Slot:
    """Allocate the buffers of one execution of `model`, owned by `acl`; `page_locked` ones on the host as well."""

    def device(size: int) -> int:
        return acl.own("acl.rt.malloc", size, MALLOC_HUGE_FIRST, release="acl.rt.free")

    def host(size: int) -> int:
        return acl.own("acl.rt.malloc_host", size, release="acl.rt.free_host")

    # Exactly the reported size: the library would write 8-byte elements into a larger selector.
    device_inputs = [device(size) for size in model.input_sizes]
    device_outputs = [device(size) for size in model.output_sizes]
    host_inputs = [host(model.input_sizes[index]) for index in model.real_inputs] if page_locked else []
    host_outputs = [host(size) for size in model.output_sizes] if page_locked else []
    # Both datasets are created before their buffers, because the buffers are released first.
    inputs = acl.own("acl.mdl.create_dataset", release="acl.mdl.destroy_dataset")
    outputs = acl.own("acl.mdl.create_dataset", release="acl.mdl.destroy_dataset")
    for dataset, addresses, sizes in (
        (inputs, device_inputs, model.input_sizes),
        (outputs, device_outputs, model.output_sizes),
    ):
        for address, size in zip(addresses, sizes):
            buffer = acl.own("acl.create_data_buffer", address, size, release="acl.destroy_data_buffer")
            acl.call("acl.mdl.add_dataset_buffer", dataset, buffer)
    return Slot(inputs, outputs, device_inputs, device_outputs, host_inputs, host_outputs)


def view(address: int, shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Page-locked host memory as an array, without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = memoryview((ctypes.c_byte * size).from_address(address))
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
