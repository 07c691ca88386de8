# SPDX-License-Identifier: Apache-2.0
"""The emulated CANN installation: a correct client gets onnxruntime's results, a broken one is caught.

Most tests load a fresh copy of the emulated ``acl`` into this process; what concerns the environment, the
exit status or a crash runs in a process of its own.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

EMULATOR = Path(__file__).parent / "emulator"
PACKAGES = EMULATOR / "python" / "site-packages"
SELECTOR = "ascend_mbatch_shape_data"
GEARS = (10, 20, 40)
H2D, D2H = 1, 2
DTYPES = {0: np.float32, 1: np.float16}


# Models


def conv_graph(masked: bool, length: int | str = "samples", opset: int = 11) -> onnx.ModelProto:
    """(1, T) -> (1, F, 3): a strided convolution over the waveform, times a mask if there is one."""
    shape = [1, length]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    nodes = []
    if masked:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.FLOAT, shape))
        nodes.append(helper.make_node("Mul", ["input", "attention_mask"], ["masked"]))
    nodes += [
        helper.make_node("Unsqueeze", ["masked" if masked else "input"], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[2]),
        helper.make_node("Transpose", ["features"], ["output"], name="last", perm=[0, 2, 1]),
    ]
    kernel = np.random.default_rng(0).standard_normal((3, 1, 4)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "frames", 3])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", opset)])


def forget_modules() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in ("acl", "cann_emulator"):
            del sys.modules[name]


@pytest.fixture(scope="module", autouse=True)
def installed():
    """What set_env.sh does, for this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGES)
        patch.setenv("ASCEND_OPP_PATH", str(EMULATOR / "opp"))
        yield
    forget_modules()


@pytest.fixture(scope="module")
def models(installed, tmp_path_factory):
    """A folder of graphs and of what atc makes of them."""
    folder = tmp_path_factory.mktemp("models")
    onnx.save(conv_graph(masked=False), folder / "one.onnx")
    onnx.save(conv_graph(masked=True), folder / "two.onnx")
    onnx.save(conv_graph(masked=False, length=30), folder / "fixed.onnx")
    two = "--dynamic_dims=" + ";".join(f"{gear},{gear}" for gear in GEARS)
    one = "--dynamic_dims=" + ";".join(str(gear) for gear in GEARS)
    assert compile_om(folder / "one", "--input_shape=input:1,-1", one) == 0
    assert compile_om(folder / "two", "--input_shape=attention_mask:1,-1;input:1,-1", two) == 0
    assert compile_om(folder / "fixed") == 0
    half = ("--input_fp16_nodes=input", "--output_type=FP16")
    assert compile_om(folder / "one", "--input_shape=input:1,-1", one, *half, name="half") == 0
    return folder


def compile_om(graph: Path, *flags: str, name: str = "") -> int:
    """Run atc in this process; flags given here win over the usual ones."""
    output = graph.with_name(name or graph.name)
    usual = (f"--model={graph}.onnx", "--framework=5", f"--output={output}", "--soc_version=Ascend310P3")
    return run_atc(*usual, *flags)


def run_atc(*flags: str) -> int:
    forget_modules()
    return importlib.import_module("cann_emulator.atc").main(list(flags))


def expected(folder: Path, graph: str, inputs: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / f"{graph}.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = {name: inputs[index] for index, name in enumerate(names)}
    return session.run(None, feeds)[0]


def utterance(length: int, inputs: int = 1, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal((1, length)).astype(np.float32)
    mask = (np.arange(length) < length - 3).astype(np.float32)[None]
    return [wave, mask][:inputs]


# The emulator in this process


@pytest.fixture
def start(monkeypatch):
    """start(DEVICE_MS=10) -> a fresh acl module under these ACL_EMULATOR_ variables."""
    hooks = []

    def fresh(**environment: object):
        for name, value in environment.items():
            monkeypatch.setenv(f"ACL_EMULATOR_{name}", str(value))
        forget_modules()
        acl = importlib.import_module("acl")
        hooks.append(report()._write)
        return acl

    yield fresh
    for hook in hooks:
        atexit.unregister(hook)
    forget_modules()


@pytest.fixture
def acl(start):
    return start()


def report():
    return sys.modules["cann_emulator.report"]


def assert_clean() -> None:
    assert report().violations == []
    assert report().leaks == []


# A correct client


class CallFailed(Exception):
    pass


class Client:
    """Opens one model and runs it, synchronously or not; releases everything in the documented order."""

    def __init__(self, acl, om: Path, asynchronous: bool = False, slots: int = 1) -> None:
        self.acl, self.asynchronous = acl, asynchronous
        self.undo: list[tuple[int, str, tuple]] = []
        self.stream = 0
        try:
            self._open(om, slots)
        except CallFailed:
            self.close()
            raise

    def call(self, name: str, *arguments):
        """Call acl.<name>, check its return code, return the rest."""
        function = self.acl
        for part in name.split("."):
            function = getattr(function, part)
        result = function(*arguments)
        code = result[-1] if isinstance(result, tuple) else (result if name in RETURNS_CODE else 0)
        if code or (name in CREATORS and not result):
            raise CallFailed(f"acl.{name}: {code}: {self.acl.get_recent_err_msg()}")
        return result[0] if isinstance(result, tuple) else result

    def own(self, rank: str, release: str, *arguments) -> None:
        self.undo.append((RELEASE_ORDER.index(rank), release, arguments))

    def _open(self, om: Path, slots: int) -> None:
        self.call("init")
        self.own("acl", "finalize")
        self.call("rt.set_device", 0)
        self.own("device", "rt.reset_device", 0)
        context = self.call("rt.create_context", 0)
        self.own("context", "rt.destroy_context", context)
        self.stream = self.call("rt.create_stream")
        self.own("stream", "rt.destroy_stream", self.stream)
        self.model = self.call("mdl.load_from_file", str(om))
        self.own("model", "mdl.unload", self.model)
        self.desc = self.call("mdl.create_desc")
        self.own("desc", "mdl.destroy_desc", self.desc)
        self.call("mdl.get_desc", self.desc, self.model)
        self.selector, code = self.acl.mdl.get_input_index_by_name(self.desc, SELECTOR)
        if code not in (0, 100000):
            raise CallFailed(f"acl.mdl.get_input_index_by_name: {code}")
        self.has_gears = code == 0
        self.slots = [Slot(self) for _ in range(slots)]

    def close(self) -> list[str]:
        """Release everything; the calls that failed."""
        failed = []
        if self.stream and self.acl.rt.synchronize_stream(self.stream):
            failed.append("acl.rt.synchronize_stream")
        for _, release, arguments in sorted(self.undo, key=lambda entry: entry[0]):
            try:
                self.call(release, *arguments)
            except CallFailed as error:
                failed.append(str(error))
        return failed

    def infer(self, inputs: list[np.ndarray]) -> np.ndarray:
        self.slots[0].submit(inputs)
        return self.slots[0].collect()


RELEASE_ORDER = (
    "buffer",
    "dataset",
    "memory",
    "model",
    "desc",
    "event",
    "stream",
    "context",
    "device",
    "acl",
)
CREATORS = {"mdl.create_desc", "mdl.create_dataset", "create_data_buffer"}
RETURNS_CODE = {
    "init", "finalize", "rt.set_device", "rt.reset_device", "rt.destroy_context", "rt.destroy_stream",
    "rt.free", "rt.free_host", "rt.memcpy", "rt.memcpy_async", "rt.synchronize_stream", "mdl.unload",
    "mdl.destroy_desc", "mdl.get_desc", "mdl.set_input_dynamic_dims", "mdl.execute", "mdl.execute_async",
    "mdl.destroy_dataset", "rt.destroy_event", "destroy_data_buffer",
}  # fmt: skip


class Slot:
    """The memory of one inference."""

    def __init__(self, client: Client) -> None:
        self.client, acl, desc = client, client.acl, client.desc
        inputs, outputs = acl.mdl.get_num_inputs(desc), acl.mdl.get_num_outputs(desc)
        self.sizes = [acl.mdl.get_input_size_by_index(desc, index) for index in range(inputs)]
        self.out_sizes = [acl.mdl.get_output_size_by_index(desc, index) for index in range(outputs)]
        self.in_set, self.inputs, self.in_buffers = self._dataset(self.sizes)
        self.out_set, self.outputs, self.out_buffers = self._dataset(self.out_sizes)
        real = inputs - client.has_gears
        self.host_inputs = [self._host(size) for size in self.sizes[:real]]
        self.host_output = self._host(self.out_sizes[0])

    def _dataset(self, sizes: list[int]):
        client = self.client
        dataset = client.call("mdl.create_dataset")
        client.own("dataset", "mdl.destroy_dataset", dataset)
        pointers, buffers = [], []
        for size in sizes:
            pointers.append(client.call("rt.malloc", size, 0))
            client.own("memory", "rt.free", pointers[-1])
            buffers.append(client.call("create_data_buffer", pointers[-1], size))
            client.own("buffer", "destroy_data_buffer", buffers[-1])
            client.call("mdl.add_dataset_buffer", dataset, buffers[-1])
        return dataset, pointers, buffers

    def _host(self, size: int) -> int:
        pointer = self.client.call("rt.malloc_host", size)
        self.client.own("memory", "rt.free_host", pointer)
        return pointer

    def set_gear(self, length: int) -> None:
        dims = [1, length] * len(self.host_inputs)
        wanted = {"name": "", "dimCount": len(dims), "dims": dims}
        client = self.client
        client.call("mdl.set_input_dynamic_dims", client.model, self.in_set, client.selector, wanted)

    def submit(self, inputs: list[np.ndarray]) -> None:
        client = self.client
        if client.has_gears:
            self.set_gear(inputs[0].shape[1])
        self.shape = client.call("mdl.get_cur_output_dims", client.desc, 0)["dims"]
        self.dtype = np.dtype(DTYPES[client.acl.mdl.get_output_data_type(client.desc, 0)])
        self.size = int(np.prod(self.shape)) * self.dtype.itemsize
        for index, values in enumerate(inputs):
            ctypes.memmove(self.host_inputs[index], values.ctypes.data, values.nbytes)
            self.copy(self.inputs[index], self.host_inputs[index], values.nbytes, H2D)
        self.execute()
        self.copy(self.host_output, self.outputs[0], self.size, D2H)

    def copy(self, dst: int, src: int, size: int, kind: int) -> None:
        client = self.client
        if client.asynchronous:
            client.call("rt.memcpy_async", dst, size, src, size, kind, client.stream)
        else:
            client.call("rt.memcpy", dst, size, src, size, kind)

    def execute(self) -> None:
        client = self.client
        if client.asynchronous:
            client.call("mdl.execute_async", client.model, self.in_set, self.out_set, client.stream)
        else:
            client.call("mdl.execute", client.model, self.in_set, self.out_set)

    def peek(self) -> np.ndarray:
        """The host's output buffer as it is now."""
        return np.frombuffer(ctypes.string_at(self.host_output, self.size), self.dtype).reshape(self.shape)

    def collect(self) -> np.ndarray:
        client = self.client
        if client.asynchronous:
            client.call("rt.synchronize_stream", client.stream)
        content = client.acl.util.ptr_to_bytes(self.host_output, self.size)
        return np.frombuffer(content, self.dtype).reshape(self.shape)


# Correct clients compute what onnxruntime computes


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("name", "inputs"), [("one", 1), ("two", 2)])
def test_every_gear_equals_onnxruntime(acl, models, name, inputs, asynchronous):
    client = Client(acl, models / f"{name}.om", asynchronous)
    for length in (40, 10, 20, 10):
        values = utterance(length, inputs, seed=length)
        assert np.array_equal(client.infer(values), expected(models, name, values))
    assert client.close() == []
    assert_clean()


def test_a_model_without_gears(acl, models):
    client = Client(acl, models / "fixed.om")
    assert not client.has_gears
    assert acl.mdl.get_input_dynamic_gear_count(client.desc, -1) == (0, 0)
    values = utterance(30)
    assert np.array_equal(client.infer(values), expected(models, "fixed", values))
    assert client.close() == []
    assert_clean()


def test_float16_inputs_and_outputs(acl, models):
    client = Client(acl, models / "half.om")
    assert acl.mdl.get_input_data_type(client.desc, 0) == 1
    assert client.slots[0].sizes[0] == 40 * 2
    half = [values.astype(np.float16) for values in utterance(20)]
    wanted = expected(models, "one", [values.astype(np.float32) for values in half]).astype(np.float16)
    assert np.array_equal(client.infer(half), wanted)
    assert client.close() == []
    assert_clean()


def test_two_slots_in_flight_are_garbage_until_synchronised(acl, models):
    client = Client(acl, models / "one.om", asynchronous=True, slots=2)
    inputs = [utterance(20, seed=1), utterance(40, seed=2)]
    for index, slot in enumerate(client.slots):
        slot.submit(inputs[index])
    assert all(np.isnan(slot.peek()).all() for slot in client.slots)
    for index, slot in enumerate(client.slots):
        assert np.array_equal(slot.collect(), expected(models, "one", inputs[index]))
    assert client.close() == []
    assert_clean()


def test_events_and_streams_order_work(acl, models):
    client = Client(acl, models / "one.om", asynchronous=True)
    slot, copies = client.slots[0], client.call("rt.create_stream")
    client.own("stream", "rt.destroy_stream", copies)
    events = [client.call("rt.create_event") for _ in range(2)]
    for event in events:
        client.own("event", "rt.destroy_event", event)
    values = utterance(20)
    slot.set_gear(20)
    ctypes.memmove(slot.host_inputs[0], values[0].ctypes.data, values[0].nbytes)
    size = values[0].nbytes
    assert acl.rt.memcpy_async(slot.inputs[0], size, slot.host_inputs[0], size, H2D, copies) == 0
    assert acl.rt.event_elapsed_time(*events) == (0.0, 507000)
    assert acl.rt.record_event(events[0], copies) == 0
    assert acl.rt.stream_wait_event(client.stream, events[0]) == 0
    slot.execute()
    assert acl.rt.record_event(events[1], client.stream) == 0
    assert acl.rt.event_elapsed_time(*events) == (0.0, 107006)
    assert acl.rt.synchronize_event(events[1]) == 0
    slot.client.asynchronous, slot.size = False, 9 * 3 * 4
    slot.copy(slot.host_output, slot.outputs[0], slot.size, D2H)
    slot.shape, slot.dtype = (1, 9, 3), np.dtype(np.float32)
    assert np.array_equal(slot.peek(), expected(models, "one", values))
    assert acl.rt.synchronize_stream(copies) == 0
    assert client.close() == []
    assert_clean()


@pytest.mark.parametrize("by_stream", [False, True])
def test_the_time_between_events_wants_both_synchronised(acl, models, by_stream):
    client = Client(acl, models / "one.om", asynchronous=True)
    events = [client.call("rt.create_event") for _ in range(2)]
    for event in events:
        client.own("event", "rt.destroy_event", event)
        assert acl.rt.record_event(event, client.stream) == 0
    assert acl.rt.synchronize_event(events[1]) == 0  # the first has come, too, but the contract wants it waited for
    assert acl.rt.event_elapsed_time(*events) == (0.0, 107006)
    assert (acl.rt.synchronize_stream(client.stream) if by_stream else acl.rt.synchronize_event(events[0])) == 0
    elapsed_ms, code = acl.rt.event_elapsed_time(*events)
    assert code == 0 and elapsed_ms >= 0
    assert client.close() == []
    assert_clean()


def test_what_a_model_says_about_itself(acl, models):
    client = Client(acl, models / "two.om")
    mdl, desc = acl.mdl, client.desc
    assert (mdl.get_num_inputs(desc), mdl.get_num_outputs(desc)) == (3, 1)
    assert [mdl.get_input_name_by_index(desc, i) for i in range(4)] == [
        "input",
        "attention_mask",
        SELECTOR,
        "",
    ]
    assert mdl.get_output_name_by_index(desc, 0) == "last:0:output"
    assert mdl.get_input_index_by_name(desc, SELECTOR) == (2, 0)
    assert mdl.get_input_index_by_name(desc, "nothing") == (0, 100000)
    assert mdl.get_input_dims(desc, 0) == ({"name": "input", "dimCount": 2, "dims": [1, -1]}, 0)
    assert mdl.get_input_dims(desc, 2)[0]["dims"] == [2]
    assert mdl.get_input_dims(desc, 3) == ({}, 100000)
    assert [mdl.get_input_size_by_index(desc, i) for i in range(4)] == [160, 160, 8, 0]
    assert mdl.get_output_size_by_index(desc, 0) == 19 * 3 * 4
    assert [mdl.get_input_data_type(desc, i) for i in range(4)] == [0, 0, 3, -1]
    assert mdl.get_cur_output_dims(desc, 0)[0]["dims"] == [1, 19, 3]
    assert mdl.get_input_dynamic_gear_count(desc, -1) == (3, 0)
    assert mdl.get_input_dynamic_gear_count(desc, 0) == (0, 100000)
    gears, code = mdl.get_input_dynamic_dims(desc, -1, 3)
    assert code == 0 and gears[0] == {"name": "", "dimCount": 4, "dims": [1, 10, 1, 10]}
    client.slots[0].set_gear(10)
    assert mdl.get_cur_output_dims(desc, 0)[0]["dims"] == [1, 4, 3]
    assert client.close() == []


def test_outputs_beyond_the_gear_are_garbage(acl, models):
    client = Client(acl, models / "one.om")
    slot = client.slots[0]
    client.infer(utterance(40))
    client.infer(utterance(10))
    whole = slot.out_sizes[0]
    client.call("rt.memcpy", slot.host_output, whole, slot.outputs[0], whole, D2H)
    rest = acl.util.ptr_to_bytes(slot.host_output, whole)[slot.size :]
    assert set(rest) == {0xFF}
    assert client.close() == []


def test_only_functions_are_public(acl):
    for module in (acl, acl.rt, acl.mdl, acl.util):
        public = {name for name in vars(module) if not name.startswith("_")}
        others = {name for name in public if not inspect.isfunction(getattr(module, name))}
        assert others <= {"rt", "mdl", "util", "ContractViolation"}


# Broken clients


@pytest.fixture
def client(acl, models):
    return Client(acl, models / "one.om")


@pytest.fixture
def async_client(acl, models):
    return Client(acl, models / "one.om", asynchronous=True, slots=2)


def reads_device_memory(acl, client, slot):
    acl.util.ptr_to_bytes(slot.outputs[0], 4)


def uses_freed_memory(acl, client, slot):
    pointer, _ = acl.rt.malloc(64, 0)
    acl.rt.free(pointer)
    acl.rt.memcpy(pointer, 64, slot.host_inputs[0], 64, H2D)


def frees_twice(acl, client, slot):
    pointer, _ = acl.rt.malloc(64, 0)
    acl.rt.free(pointer)
    acl.rt.free(pointer)


def frees_host_as_device(acl, client, slot):
    acl.rt.free(slot.host_inputs[0])


def copies_beyond_the_end(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 176, slot.host_inputs[0], 160, H2D)


def reads_beyond_the_end(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 160, slot.host_inputs[0] + 32, 160, H2D)


def swaps_the_kind(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 160, slot.host_inputs[0], 160, D2H)


def passes_host_memory_to_the_model(acl, client, slot):
    acl.create_data_buffer(slot.host_inputs[0], 160)


def passes_a_handle_as_memory(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 160, slot.in_set, 160, H2D)


def drops_the_bytes(acl, client, slot):
    pointer = acl.util.bytes_to_ptr(bytes(bytearray(160)))
    acl.rt.memcpy(slot.inputs[0], 160, pointer, 160, H2D)


def writes_into_bytes(acl, client, slot):
    target = bytes(bytearray(160))
    acl.rt.memcpy(acl.util.bytes_to_ptr(target), 160, slot.inputs[0], 160, D2H)


def overruns_host_memory(acl, client, slot):
    ctypes.memset(slot.host_inputs[0], 0, 161)
    acl.rt.free_host(slot.host_inputs[0])


def never_sets_a_gear(acl, client, slot):
    acl.mdl.execute(client.model, slot.in_set, slot.out_set)


def goes_on_after_a_refused_gear(acl, client, slot):
    slot.set_gear(20)
    with pytest.raises(CallFailed, match="145013"):
        slot.set_gear(21)
    acl.mdl.execute(client.model, slot.in_set, slot.out_set)


def never_writes_the_input(acl, client, slot):
    slot.set_gear(20)
    slot.execute()


def writes_less_than_the_gear(acl, client, slot):
    client.infer(utterance(40))
    slot.set_gear(20)
    slot.copy(slot.inputs[0], slot.host_inputs[0], 64, H2D)
    slot.execute()


def allocates_a_large_selector(acl, client, slot):
    pointer, _ = acl.rt.malloc(64, 0)
    acl.update_data_buffer(slot.in_buffers[1], pointer, 64)
    slot.set_gear(20)


def overwrites_the_selector(acl, client, slot):
    slot.set_gear(20)
    slot.copy(slot.inputs[0], slot.host_inputs[0], 160, H2D)
    slot.copy(slot.inputs[1], slot.host_inputs[0], 4, H2D)
    slot.execute()


def shrinks_an_input(acl, client, slot):
    acl.update_data_buffer(slot.in_buffers[0], slot.inputs[0], 64)
    slot.set_gear(20)
    slot.execute()


def shrinks_an_output(acl, client, slot):
    acl.update_data_buffer(slot.out_buffers[0], slot.outputs[0], 64)
    client.infer(utterance(20))


def shares_memory_between_buffers(acl, client, slot):
    acl.update_data_buffer(slot.out_buffers[0], slot.inputs[0], 160)
    client.infer(utterance(10))


def executes_with_a_destroyed_buffer(acl, client, slot):
    slot.set_gear(20)
    acl.destroy_data_buffer(slot.in_buffers[0])
    slot.execute()


def uses_a_destroyed_dataset(acl, client, slot):
    dataset = acl.mdl.create_dataset()
    acl.mdl.destroy_dataset(dataset)
    acl.mdl.get_dataset_num_buffers(dataset)


def confuses_handles(acl, client, slot):
    acl.mdl.destroy_dataset(slot.in_buffers[0])


def invents_a_handle(acl, client, slot):
    acl.rt.synchronize_stream(12345)


def destroys_a_dataset_before_its_buffers(acl, client, slot):
    acl.mdl.destroy_dataset(slot.in_set)


def frees_memory_before_its_buffer(acl, client, slot):
    acl.rt.free(slot.inputs[0])


def unloads_before_the_datasets(acl, client, slot):
    client.infer(utterance(20))
    acl.mdl.unload(client.model)


def destroys_the_description_first(acl, client, slot):
    acl.mdl.destroy_desc(client.desc)


def resets_the_device_first(acl, client, slot):
    acl.rt.reset_device(0)


def destroys_the_context_first(acl, client, slot):
    acl.rt.destroy_context(acl.rt.get_context()[0])


def uses_a_model_in_another_context(acl, client, slot):
    acl.rt.create_context(0)
    acl.mdl.execute(client.model, slot.in_set, slot.out_set)


def calls_after_finalize(acl, client, slot):
    acl.finalize()
    acl.rt.malloc(64, 0)


def touches_a_failed_list(acl, client, slot):
    gears, code = acl.mdl.get_input_dynamic_dims(client.desc, -1, 1)
    assert code == 100000
    list(gears)


def overruns_the_dims(acl, client, slot):
    dims = {"dimCount": 129, "dims": [1] * 129}
    acl.mdl.set_input_dynamic_dims(client.model, slot.in_set, 1, dims)


SYNC_MISTAKES = [
    (reads_device_memory, "not host memory"),
    (uses_freed_memory, "freed"),
    (frees_twice, "freed"),
    (frees_host_as_device, "inside the host memory"),
    (copies_beyond_the_end, "beyond the end of the device memory"),
    (reads_beyond_the_end, "beyond the end of the host memory"),
    (swaps_the_kind, "kind 2 does not fit"),
    (passes_host_memory_to_the_model, "not device memory"),
    (passes_a_handle_as_memory, "a handle, not memory"),
    (drops_the_bytes, "not kept alive"),
    (writes_into_bytes, "read-only"),
    (overruns_host_memory, "wrote beyond the end"),
    (never_sets_a_gear, "no successful set_input_dynamic_dims"),
    (goes_on_after_a_refused_gear, "no successful set_input_dynamic_dims"),
    (never_writes_the_input, "never written"),
    (writes_less_than_the_gear, "of an earlier run"),
    (allocates_a_large_selector, "selector of 64 bytes"),
    (overwrites_the_selector, "the selector holds"),
    (shrinks_an_input, "64 bytes, 160 are needed"),
    (shrinks_an_output, "64 bytes, 108 are needed"),
    (shares_memory_between_buffers, "begins inside"),
    (executes_with_a_destroyed_buffer, "destroyed"),
    (uses_a_destroyed_dataset, "already destroyed"),
    (confuses_handles, "expected a dataset, got the data buffer"),
    (invents_a_handle, "no handle"),
    (destroys_a_dataset_before_its_buffers, "has to be destroyed first"),
    (frees_memory_before_its_buffer, "has to be destroyed first"),
    (unloads_before_the_datasets, "has to be destroyed first"),
    (destroys_the_description_first, "has to be unloaded before"),
    (resets_the_device_first, "before its device is reset"),
    (destroys_the_context_first, "has to be released first"),
    (uses_a_model_in_another_context, "another context"),
    (calls_after_finalize, "after acl.finalize"),
    (touches_a_failed_list, "was touched"),
    (overruns_the_dims, "129 dims"),
]


@pytest.mark.parametrize(("mistake", "text"), SYNC_MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_client_is_caught(acl, client, mistake, text):
    with pytest.raises(acl.ContractViolation, match=text):
        mistake(acl, client, client.slots[0])
    assert text.partition(",")[0] in report().violations[-1]["text"]
    assert report().violations[-1]["at"].startswith(__file__)


def copies_from_ordinary_memory(acl, client, slot, other):
    values = utterance(20)[0]
    acl.rt.memcpy_async(slot.inputs[0], 80, values.ctypes.data, 80, H2D, client.stream)


def changes_the_source_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    ctypes.memset(slot.host_inputs[0], 0, 4)
    slot.collect()


def frees_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.rt.free_host(slot.host_output)


def destroys_a_dataset_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.mdl.destroy_dataset(slot.out_set)


def destroys_a_stream_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.rt.destroy_stream(client.stream)


def sets_a_gear_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    slot.set_gear(10)


def shares_a_selector(acl, client, slot, other):
    acl.update_data_buffer(other.in_buffers[1], slot.inputs[1], 4)
    slot.submit(utterance(20))
    other.submit(utterance(10))


def copies_in_flight_output_at_once(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.rt.memcpy(slot.host_output, 4, slot.outputs[0], 4, D2H)


def reads_before_synchronising(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.util.ptr_to_bytes(slot.host_output, 4)


def runs_a_model_on_two_streams(acl, client, slot, other):
    slot.submit(utterance(20))
    client.stream, _ = acl.rt.create_stream()
    other.submit(utterance(20))


def copies_on_an_unordered_stream(acl, client, slot, other):
    slot.submit(utterance(20))
    stream, _ = acl.rt.create_stream()
    acl.rt.memcpy_async(other.host_output, 4, slot.outputs[0], 4, D2H, stream)


def records_an_event_twice(acl, client, slot, other):
    event, _ = acl.rt.create_event()
    acl.rt.record_event(event, client.stream)
    acl.rt.record_event(event, client.stream)


def destroys_a_stream_before_its_event(acl, client, slot, other):
    event, _ = acl.rt.create_event()
    acl.rt.record_event(event, client.stream)
    acl.rt.synchronize_stream(client.stream)
    acl.rt.destroy_stream(client.stream)


def leaves_an_output_to_the_library(acl, client, slot, other):
    acl.update_data_buffer(slot.out_buffers[0], 0, 0)
    slot.set_gear(20)
    slot.execute()


ASYNC_MISTAKES = [
    (copies_from_ordinary_memory, "malloc_host"),
    (changes_the_source_in_flight, "changed the source"),
    (frees_in_flight, "still in use by memcpy_async"),
    (destroys_a_dataset_in_flight, "still in use by execute_async"),
    (destroys_a_stream_in_flight, "still in flight"),
    (sets_a_gear_in_flight, "still in use by execute_async"),
    (shares_a_selector, "still in use by execute_async"),
    (copies_in_flight_output_at_once, "still in use by"),
    (reads_before_synchronising, "still in use by memcpy_async"),
    (runs_a_model_on_two_streams, "another stream"),
    (copies_on_an_unordered_stream, "unordered"),
    (records_an_event_twice, "recorded again"),
    (destroys_a_stream_before_its_event, "has to be destroyed first"),
    (leaves_an_output_to_the_library, "0 bytes, 108 are needed"),
]


@pytest.mark.parametrize(("mistake", "text"), ASYNC_MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_asynchronous_client_is_caught(acl, async_client, mistake, text):
    with pytest.raises(acl.ContractViolation, match=text):
        mistake(acl, async_client, *async_client.slots)
    assert text in report().violations[-1]["text"]


# Codes that the real library returns


def set_dims(client, **changes):
    dims = {"name": "", "dimCount": 2, "dims": [1, 20], **changes}
    slot = client.slots[0]
    return client.acl.mdl.set_input_dynamic_dims(client.model, slot.in_set, client.selector, dims)


def with_small_selector(client):
    client.acl.update_data_buffer(client.slots[0].in_buffers[1], client.slots[0].inputs[1], 2)
    return set_dims(client)


def mixed_modes(client):
    client.infer(utterance(20))
    slot = client.slots[0]
    return client.acl.mdl.execute_async(client.model, slot.in_set, slot.out_set, client.stream)


def incomplete_dataset(client):
    return client.acl.mdl.execute(client.model, client.slots[0].out_set, client.slots[0].out_set)


def foreign_stream(client):
    client.acl.rt.create_context(0)
    return client.acl.rt.destroy_stream(client.stream)


def from_a_new_thread(client):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(client.acl.rt.malloc, 64, 0).result()


def copy_of(count: int, kind: int = H2D, dst: int | None = None, room: int = 160):
    def copy(client):
        slot = client.slots[0]
        target = slot.inputs[0] if dst is None else dst
        return client.acl.rt.memcpy(target, room, slot.host_inputs[0], count, kind)

    return copy


RETURNED = [
    ("second init", lambda c: c.acl.init(), 100002),
    ("config missing", lambda c: c.acl.init("nowhere.json"), 100003),
    ("bad device", lambda c: c.acl.rt.set_device(7), 107001),
    ("size 0", lambda c: c.acl.rt.malloc(0, 0), (0, 100000)),
    ("out of memory", lambda c: c.acl.rt.malloc(1 << 50, 0), (0, 207001)),
    ("free null", lambda c: c.acl.rt.free(0), 100000),
    ("copy nothing", copy_of(0, kind=99), 0),
    ("copy to null", copy_of(4, dst=0), 100000),
    ("kind 6", copy_of(4, kind=6), 100000),
    ("too much", copy_of(8, room=4), 107000),
    ("host to host", lambda c: c.acl.rt.memcpy_async(*host_to_host(c), c.stream), 207000),
    ("no dims", lambda c: set_dims(c, dimCount=0), 100000),
    ("no gear", lambda c: set_dims(c, dims=[1, 21]), 145013),
    ("static axis", lambda c: set_dims(c, dims=[2, 20]), 145012),
    ("too many dims", lambda c: set_dims(c, dimCount=3, dims=[1, 20, 1]), 145012),
    ("small selector", with_small_selector, 145012),
    ("unknown model", lambda c: c.acl.mdl.unload(99), 145003),
    ("no file", lambda c: c.acl.mdl.load_from_file("nowhere.om"), (0, 145002)),
    ("not an om", lambda c: c.acl.mdl.load_from_file(__file__), (0, 145006)),
    ("mixed modes", mixed_modes, 500002),
    ("buffer count", incomplete_dataset, 145000),
    ("foreign stream", foreign_stream, 107003),
    ("no context", from_a_new_thread, (0, 107002)),
    ("buffer out of range", lambda c: c.acl.mdl.get_dataset_buffer(c.slots[0].in_set, 9), 0),
    ("null data buffer", lambda c: c.acl.destroy_data_buffer(0), 100000),
    ("too many gears asked", lambda c: c.acl.mdl.get_input_dynamic_dims(c.desc, -1, 4097), (None, 100000)),
    ("run mode", lambda c: c.acl.rt.get_run_mode(), (1, 0)),
]


def host_to_host(client):
    slot = client.slots[0]
    return slot.host_output, 4, slot.host_inputs[0], 4, 0


@pytest.mark.parametrize(("ask", "code"), [row[1:] for row in RETURNED], ids=[row[0] for row in RETURNED])
def test_documented_codes_are_returned(client, ask, code):
    assert ask(client) == code
    assert report().violations == []


def test_the_error_text_belongs_to_its_thread_and_is_read_once(client):
    assert client.acl.mdl.unload(99) == 145003
    assert client.acl.rt.free(0) == 100000
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(client.acl.get_recent_err_msg).result() is None
    newest, older = client.acl.get_recent_err_msg().splitlines()
    assert "acl.rt.free: 100000" in newest and "acl.mdl.unload: 145003" in older
    assert client.acl.get_recent_err_msg() is None


def test_before_init_and_after_finalize(acl):
    assert acl.rt.get_device_count() == (1, 0)
    assert acl.get_soc_name() == "Ascend310P3"
    assert acl.mdl.load_from_file("x.om") == (0, 145001)
    assert acl.finalize() == 100037
    assert acl.init() == 0
    assert acl.rt.malloc(4, 0) == (0, 107002)
    assert acl.finalize() == 0
    assert acl.finalize() == 100037
    assert acl.init() == 0
    assert acl.finalize_reference() == (0, 0)
    assert_clean()


def test_an_unsuitable_om_is_refused(start, models, tmp_path):
    content = (models / "one.om").read_bytes()
    for name, damaged in (("cut", content[:-1]), ("altered", content[:-1] + b"?"), ("empty", b"")):
        (tmp_path / name).write_bytes(damaged)
    acl = start(SOC="Ascend910B3")
    acl.init()
    acl.rt.set_device(0)
    for name in ("cut", "altered", "empty"):
        assert acl.mdl.load_from_file(str(tmp_path / name)) == (0, 145006)
    assert acl.mdl.load_from_file(str(models / "one.om")) == (0, 507008)


def test_a_model_loaded_from_memory(acl, models):
    content = (models / "fixed.om").read_bytes()
    acl.init()
    acl.rt.set_device(0)
    model, code = acl.mdl.load_from_mem(acl.util.bytes_to_ptr(content), len(content))
    assert code == 0
    work, weight, code = acl.mdl.query_size(str(models / "fixed.om"))
    assert code == 0 and work > 0 and weight > 0
    assert acl.mdl.unload(model) == 0
    assert acl.rt.reset_device(0) == 0
    assert acl.finalize() == 0
    assert_clean()


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 4), ("", 0), ("1,3", 2), ("3,1", 1), ("0, 1", 1), ("NoDevFiles", 0), ("9", 0)],
)
def test_visible_devices(start, monkeypatch, visible, count):
    acl = start(DEVICES=4)
    if visible is not None:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", visible)
    assert acl.rt.get_device_count() == (count, 0)


# Arguments


@pytest.mark.parametrize("bad", [np.int64(64), 64.0, None, "64"])
def test_pointers_and_sizes_are_plain_ints(client, bad):
    with pytest.raises(TypeError, match=r"acl\.rt\.malloc args parse failed"):
        client.acl.rt.malloc(bad, 0)


def test_other_argument_rules(client):
    acl, slot = client.acl, client.slots[0]
    assert acl.rt.set_device(np.int32(0)) == 0  # an index is enough here
    assert acl.rt.reset_device(0) == 0
    for broken in (
        lambda: acl.init(None),
        lambda: acl.rt.malloc(64),
        lambda: acl.rt.malloc(size=64, policy=0),
        lambda: acl.rt.set_device(0.0),
        lambda: acl.mdl.load_from_file(Path("x.om")),
        lambda: set_dims(client, dims=(1, 20)),
        lambda: set_dims(client, dims=[1, np.int64(20)]),
        lambda: set_dims(client, dims=np.array([1, 20])),
    ):
        with pytest.raises(TypeError):
            broken()
    for broken in (bytearray(4), memoryview(b"1234"), np.zeros(4)):
        with pytest.raises(ValueError):
            acl.util.bytes_to_ptr(broken)
    assert acl.mdl.get_dataset_buffer(slot.in_set, -1) == 0  # -1 wraps to a very large index


# Leaks


def forgets_a_stream(acl):
    acl.rt.create_stream()


def forgets_memory(acl):
    acl.rt.malloc(64, 0)
    acl.rt.malloc_host(64)


def forgets_a_dataset(acl):
    acl.mdl.create_dataset()


def forgets_a_description(acl):
    acl.mdl.create_desc()


def forgets_a_context(acl):
    acl.rt.create_context(0)


def forgets_the_device(acl):
    pass


@pytest.mark.parametrize(
    ("forget", "leaks"),
    [
        (forgets_a_stream, ["stream created at", "device 0"]),
        (forgets_memory, ["device memory created at", "host memory created at", "device 0"]),
        (forgets_a_dataset, ["dataset created at", "device 0"]),
        (forgets_a_description, ["model description created at", "device 0"]),
        (forgets_a_context, ["context created at", "device 0"]),
        (forgets_the_device, ["device 0"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_leaks_are_reported(acl, forget, leaks):
    acl.init()
    acl.rt.set_device(0)
    forget(acl)
    assert acl.finalize() == 0
    assert [any(text in leak for leak in report().leaks) for text in leaks] == [True] * len(leaks)
    assert len(report().leaks) == len(leaks)


# Injected failures


def run_once(acl, om: Path, asynchronous: bool) -> np.ndarray | None:
    """What a careful program does: one inference, everything released, the first error raised."""
    client = Client(acl, om, asynchronous)
    try:
        return client.infer(utterance(20))
    finally:
        failed = client.close()
        if failed and sys.exc_info()[0] is None:
            raise CallFailed("; ".join(failed))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_every_call_can_fail(start, models, asynchronous):
    run_once(start(), models / "one.om", asynchronous)
    total = report().failable_calls
    names = set()
    for number in range(1, total + 1):
        acl = start(FAIL_CALL=number, FAIL_CODE=507899)
        with pytest.raises(CallFailed) as caught:
            run_once(acl, models / "one.om", asynchronous)
        assert report().injected in str(caught.value)
        names.add(report().injected)
        assert_clean()
    assert {"acl.init", "acl.mdl.load_from_file", "acl.rt.free", "acl.finalize"} <= names


def test_injected_failures_have_the_documented_form(start, models):
    acl = start(FAIL_CALL=3, FAIL_CODE=207001)
    acl.init()
    acl.rt.set_device(0)
    assert acl.rt.malloc(64, 0) == (0, 207001)
    assert "207001" in acl.get_recent_err_msg()
    acl = start(FAIL_CALL=2)
    acl.init()
    assert acl.mdl.create_dataset() == 0
    acl = start(FAIL_CALL=3)
    acl.init()
    desc = acl.mdl.create_desc()
    assert acl.mdl.get_input_dims(desc, 0) == ({}, 207001)


def test_an_asynchronous_failure_shows_when_synchronised(start, models):
    acl = start(FAIL_ASYNC=2)
    client = Client(acl, models / "one.om", asynchronous=True)
    client.infer(utterance(20))
    client.slots[0].submit(utterance(40))
    assert acl.rt.synchronize_stream(client.stream) == 507011
    assert np.isnan(client.slots[0].peek()).all()
    assert acl.rt.synchronize_stream(client.stream) == 0  # told once
    assert client.close() == []
    assert_clean()


@pytest.mark.parametrize(("silent", "code"), [(0, 507011), (1, 0)])
def test_whether_an_event_tells_of_a_failure(start, models, silent, code):
    acl = start(FAIL_ASYNC=1, EVENT_SILENT=silent)
    client = Client(acl, models / "one.om", asynchronous=True)
    event = client.call("rt.create_event")
    client.own("event", "rt.destroy_event", event)
    client.slots[0].submit(utterance(40))
    acl.rt.record_event(event, client.stream)
    assert acl.rt.synchronize_event(event) == code
    assert acl.rt.synchronize_stream(client.stream) == 507011 - code
    assert client.close() == []


# Simulated time


def test_executions_follow_each_other_on_the_simulated_clock(start, models):
    acl = start(DEVICE_MS=500)
    timed = Client(acl, models / "one.om", asynchronous=True, slots=2)
    events = [timed.call("rt.create_event") for _ in timed.slots]
    for event in events:
        timed.own("event", "rt.destroy_event", event)
    for index, slot in enumerate(timed.slots):
        slot.submit(utterance(20))
        acl.rt.record_event(events[index], timed.stream)
    assert acl.rt.synchronize_stream_with_timeout(timed.stream, 1) == 507046
    assert acl.rt.synchronize_stream(timed.stream) == 0
    elapsed, code = acl.rt.event_elapsed_time(events[0], events[1])
    assert code == 0 and elapsed > 499.9
    assert not timed.slots[0].peek().any()
    assert timed.close() == []
    assert_clean()


def count_while(action) -> int:
    """How often another Python thread comes to run during this."""
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    action()
    during = ticks[0] - before
    stop.set()
    thread.join()
    return during


def test_synchronous_execution_freezes_python_and_waiting_does_not(start, models):
    sync = Client(start(DEVICE_MS=300), models / "one.om")
    sync.infer(utterance(20))
    frozen = count_while(sync.slots[0].execute)
    assert sync.close() == []
    free = Client(start(DEVICE_MS=1500), models / "one.om", asynchronous=True)
    free.slots[0].submit(utterance(20))
    running = count_while(free.slots[0].collect)
    assert free.close() == []
    assert frozen < running / 2


# Processes: report, exit status, crash, environment


def run_script(code: str, **environment: object) -> subprocess.CompletedProcess:
    variables = {f"ACL_EMULATOR_{name}": str(value) for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(PACKAGES), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_swallowed_violation_is_still_reported(tmp_path):
    code = """
        import acl
        acl.init(); acl.rt.set_device(0)
        try:
            acl.rt.free(12345678)
        except BaseException:
            pass
        print("result")
    """
    path = tmp_path / "report.json"
    done = run_script(code, REPORT=path)
    assert done.returncode == 70
    assert done.stdout == "result\n"
    assert "violation: acl.rt.free" in done.stderr and "leak: device 0" in done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [violation["call"] for violation in found["violations"]] == ["acl.rt.free"]
    assert "acl.finalize was not called" in found["leaks"]
    assert found["calls"] == {"acl.init": 1, "acl.rt.free": 1, "acl.rt.set_device": 1}
    assert (found["total_calls"], found["failable_calls"], found["injected"]) == (3, 3, None)


def test_a_clean_process_keeps_its_own_status(tmp_path):
    code = "import acl, sys; acl.init(); acl.finalize(); sys.exit(3)"
    path = tmp_path / "report.json"
    done = run_script(code, REPORT=path, FAIL_CALL=2)
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(path.read_text(encoding="utf-8"))["injected"] == "acl.finalize"


def test_device_memory_is_unreadable():
    code = """
        import acl, ctypes
        acl.init(); acl.rt.set_device(0)
        ctypes.string_at(acl.rt.malloc(64, 0)[0], 1)
    """
    assert run_script(code).returncode == -signal.SIGSEGV


def test_set_env_serves_any_script(tmp_path):
    """From another folder, in a path with blanks, under a strict shell: atc, npu-smi and acl are found."""
    home = tmp_path / "a CANN"
    shutil.copytree(EMULATOR, home, ignore=shutil.ignore_patterns("__pycache__"))
    onnx.save(conv_graph(masked=False, length=30), tmp_path / "m.onnx")
    script = f"""
        set -euo pipefail
        unset PYTHONPATH
        source '{home}/set_env.sh'
        test "$ASCEND_TOOLKIT_HOME" = '{home}'
        npu-smi info
        atc --model=m.onnx --framework=5 --output=m --soc_version=Ascend310P3
        test -s m.om
        "$PYTHON" -c 'import acl; print(acl.__file__, acl.rt.get_device_count())'
        atc --model=missing.onnx --framework=5 --output=m --soc_version=Ascend310P3
    """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 255, done.stderr
    assert "| 0       310P3 " in done.stdout
    assert "ATC start working now, please wait for a moment.\nATC run success" in done.stdout
    assert f"{home}/python/site-packages/acl/__init__.py (1, 0)" in done.stdout
    assert "ATC run failed" in done.stdout and "E13000: " in done.stdout


# atc

ONE = "--input_shape=input:1,-1"
REFUSED = [
    ("E10001", [ONE, "--dynamic_dims=10; 20"]),
    ("E10001", [ONE, "--dynamic_dims=10;-20"]),
    ("E10001", ["--input_shape=input:1,30", "--dynamic_dims=10;20"]),
    ("E10035", [ONE, "--dynamic_dims=10"]),
    ("E10036", [ONE, "--dynamic_dims=" + ";".join(str(gear) for gear in range(10, 111))]),
    ("E10003", [ONE, "--dynamic_dims=10;20,20"]),
    ("E10003", [ONE, "--dynamic_dims=10,10;20,20"]),
    ("E10038", [ONE, "--dynamic_dims=0;20"]),
    ("E10039", [ONE, "--dynamic_dims=10;20;10"]),
    ("E10058", [ONE, "--dynamic_dims="]),
    ("E19999", [ONE, "--dynamic_dims=2;20"]),
    ("E10004", ["--dynamic_dims=10;20"]),
    ("E10004", []),
    ("E10001", ["--input_shape=other:1,-1"]),
    ("E10002", ["--input_shape=input"]),
    ("E10002", ["--input_shape=input:1, -1"]),
    ("E10049", ["--input_shape=input:-1"]),
    ("E10001", ["--input_shape=input:2,-1"]),
    ("E10009", [ONE, "--dynamic_dims=10;20", "--dynamic_batch_size=1,2"]),
    ("E10001", [ONE, "--precision_mode=force_fp16", "--precision_mode_v2=fp16"]),
    ("E10001", [ONE, "--precision_mode_v2=mixed_bfloat16"]),
    ("E13000", [ONE, "--op_precision_mode=missing.ini"]),
    ("E10001", [ONE, "--soc_version=310P3"]),
    ("E10003", [ONE, "--framework=4"]),
    ("E10003", [ONE, "--input_format=NHWC"]),
    ("E10001", [ONE, "--log=verbose"]),
    ("E10001", [ONE, "--no_such_flag=1"]),
    ("E10001", [ONE, "--auto_tune_mode=RL"]),
    ("E10001", [ONE, "--input_fp16_nodes=other"]),
    ("E10001", [ONE, "--output_type=BF16"]),
    ("E10054", [ONE, "20000"]),
    ("E13000", [ONE, "--model=missing.onnx"]),
    ("E13000", [ONE, "--output=missing/folder/m"]),
]


@pytest.mark.parametrize(("code", "flags"), REFUSED, ids=[f"{code} {flags[-1:]}" for code, flags in REFUSED])
def test_atc_refuses(models, tmp_path, capsys, code, flags):
    assert compile_om(models / "one", f"--output={tmp_path / 'm'}", *flags) == 255
    printed = capsys.readouterr()
    assert printed.out.startswith("ATC start working now, please wait for a moment.\nATC run failed")
    assert f"\n{code}: " in printed.out
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == []


def with_input_type(elem_type: int) -> onnx.ModelProto:
    model = conv_graph(masked=True)
    model.graph.input[1].type.tensor_type.elem_type = elem_type
    return model


def with_operator(name: str) -> onnx.ModelProto:
    model = conv_graph(masked=False)
    model.graph.node[0].op_type = name
    return model


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("E16001", conv_graph(masked=False, opset=10).SerializeToString()),
        ("E16001", with_input_type(TensorProto.INT64).SerializeToString()),
        ("E16001", with_input_type(TensorProto.BOOL).SerializeToString()),
        ("E16002", with_operator("NonZero").SerializeToString()),
        ("E16002", with_operator("Unheard").SerializeToString()),
        ("E16004", b"this is no ONNX file"),
        ("E16004", b""),
    ],
    ids=["opset", "int64", "bool", "NonZero", "unknown operator", "text", "empty"],
)
def test_atc_refuses_graphs(tmp_path, capsys, code, content):
    (tmp_path / "m.onnx").write_bytes(content)
    shape = "--input_shape=input:1,-1;attention_mask:1,-1"
    assert compile_om(tmp_path / "m", shape) == 255
    assert f"\n{code}: " in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["--model", "--framework", "--output", "--soc_version"])
def test_atc_needs_its_flags(models, tmp_path, capsys, missing):
    flags = [
        f"--model={models / 'one.onnx'}",
        "--framework=5",
        f"--output={tmp_path}/m",
        "--soc_version=Ascend310P3",
    ]
    assert run_atc(*(flag for flag in flags if not flag.startswith(missing))) == 255
    assert f"E10054: {missing}" in capsys.readouterr().out


def test_atc_needs_its_environment(models, monkeypatch, capsys):
    monkeypatch.delenv("ASCEND_OPP_PATH")
    assert compile_om(models / "fixed") == 255
    assert "E10501" in capsys.readouterr().out


def test_shapes_that_stay_dynamic_give_another_file(models, tmp_path):
    assert compile_om(models / "one", ONE, f"--output={tmp_path / 'm'}") == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"m_linux_{os.uname().machine}.om"]


def test_a_trailing_semicolon_is_tolerated(models, tmp_path):
    assert compile_om(models / "one", ONE, "--dynamic_dims=10;20;", f"--output={tmp_path / 'm'}") == 0
    assert (tmp_path / "m.om").is_file()
