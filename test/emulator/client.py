# SPDX-License-Identifier: Apache-2.0
"""What the emulator's tests share: small models, a correct client of acl, and ways to run atc and Python programs."""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

EMULATOR = Path(__file__).parent
PACKAGES = EMULATOR / "python" / "site-packages"
SELECTOR = "ascend_mbatch_shape_data"
GEARS = (10, 20, 40)
H2D, D2H = 1, 2  # kinds of a copy: host to device, device to host
DTYPES = {0: np.float32, 1: np.float16}  # acl's numbers


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


def utterance(length: int, inputs: int = 1, seed: int = 0) -> list[np.ndarray]:
    """The inputs of one inference: a waveform, and a mask if the model has two inputs; each (1, length) float32."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal((1, length)).astype(np.float32)
    mask = (np.arange(length) < length - 3).astype(np.float32)[None]
    return [wave, mask][:inputs]


def expected(folder: Path, graph: str, inputs: list[np.ndarray]) -> np.ndarray:
    """The output that onnxruntime computes from the ONNX file."""
    session = onnxruntime.InferenceSession(folder / f"{graph}.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = {name: inputs[index] for index, name in enumerate(names)}
    return session.run(None, feeds)[0]


# The emulator in this process


def forget_modules() -> None:
    """Make the next import of acl or cann_emulator load a fresh copy."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("acl", "cann_emulator"):
            del sys.modules[name]


def report() -> ModuleType:
    """The report module of the copy that was loaded last."""
    return sys.modules["cann_emulator.report"]


def assert_clean() -> None:
    assert report().violations == []
    assert report().advice == []
    assert report().leaks == []


def run_atc(*flags: str) -> int:
    """Run atc in this process; returns its exit status."""
    forget_modules()
    return importlib.import_module("cann_emulator.atc").main(list(flags))


def compile_om(graph: Path, *flags: str, name: str = "") -> int:
    """Run atc on ``graph``.onnx; a flag that is given here replaces the usual flag of that name."""
    output = graph.with_name(name or graph.name)
    usual = (f"--model={graph}.onnx", "--framework=5", f"--output={output}", "--soc_version=Ascend310P3")
    return run_atc(*usual, *flags)


# The emulator in a process of its own


def run_program(code: str, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run an indented Python program that can import acl, under these ACL_EMULATOR_ variables."""
    variables = {f"ACL_EMULATOR_{name}": str(value) for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(PACKAGES), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


# A correct client


# The documented order; the first kind is released first.
RELEASE_ORDER = (
    "callback",
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
# Functions that return a handle without a code. All others return a code, or a value and a code.
CREATORS = {"mdl.create_desc", "mdl.create_dataset", "create_data_buffer"}


class CallFailed(Exception):
    """A call of acl returned a code other than 0, or no handle."""


class Client:
    """Opens one model and runs it, synchronously or not; releases everything in the documented order."""

    def __init__(self, acl: ModuleType, om: Path, asynchronous: bool = False, slots: int = 1) -> None:
        self.acl, self.asynchronous = acl, asynchronous
        self.undo: list[tuple[int, str, tuple[int, ...]]] = []  # (place in RELEASE_ORDER, function, arguments)
        self.stream = 0
        try:
            self._open(om, slots)
        except CallFailed:
            self.close()
            raise

    def call(self, name: str, *arguments: Any) -> Any:
        """Call acl.<name>, check its code or handle, return its value. Raises CallFailed."""
        function: Any = self.acl
        for part in name.split("."):
            function = getattr(function, part)
        result = function(*arguments)
        if isinstance(result, tuple):
            value, code = result
        elif name in CREATORS:
            value, code = result, (0 if result else "no handle")
        else:
            value, code = None, result
        if code:
            raise CallFailed(f"acl.{name}: {code}: {self.acl.get_recent_err_msg()}")
        return value

    def own(self, kind: str, release: str, *arguments: int) -> None:
        """Have close() call acl.<release>(*arguments), at the turn of this kind of resource."""
        self.undo.append((RELEASE_ORDER.index(kind), release, arguments))

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
        """Release everything; returns a text for every call that failed."""
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
        """One inference in the first slot."""
        self.slots[0].submit(inputs)
        return self.slots[0].collect()


class CallbackClient(Client):
    """An asynchronous client that takes its results in callbacks, on a thread of its own."""

    def __init__(self, acl: ModuleType, om: Path) -> None:
        self.launched: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False ends the thread
        self.failed: list[str] = []  # calls of the thread
        self.results: list[np.ndarray] = []
        self.thread, _ = acl.util.start_thread(self._report, acl)
        super().__init__(acl, om, asynchronous=True)

    def _report(self, acl: ModuleType) -> None:
        while self.launched.get():
            while code := acl.rt.process_report(-1):
                self.failed.append(f"acl.rt.process_report: {code}")

    def _open(self, om: Path, slots: int) -> None:
        super()._open(om, slots)
        self.call("rt.subscribe_report", self.thread, self.stream)
        self.own("callback", "rt.unsubscribe_report", self.thread, self.stream)

    def infer(self, inputs: list[np.ndarray]) -> np.ndarray:
        slot = self.slots[0]
        slot.submit(inputs)
        self.call("rt.launch_callback", self._take, slot, 1, self.stream)
        self.launched.put(True)
        self.call("rt.synchronize_stream", self.stream)
        return self.results[-1]

    def _take(self, slot: Slot) -> None:
        content = self.acl.util.ptr_to_bytes(slot.host_output, slot.size)
        self.results.append(np.frombuffer(content, slot.dtype).reshape(slot.shape))

    def close(self) -> list[str]:
        failed = super().close()
        self.launched.put(False)
        self.acl.util.stop_thread(self.thread)
        return self.failed + failed


class Slot:
    """The memory of one inference: datasets on the device, and buffers on the host to copy from and to."""

    def __init__(self, client: Client) -> None:
        self.client, acl, desc = client, client.acl, client.desc
        inputs, outputs = acl.mdl.get_num_inputs(desc), acl.mdl.get_num_outputs(desc)
        self.sizes = [acl.mdl.get_input_size_by_index(desc, index) for index in range(inputs)]
        self.out_sizes = [acl.mdl.get_output_size_by_index(desc, index) for index in range(outputs)]
        self.in_set, self.inputs, self.in_buffers = self._dataset(self.sizes)
        self.out_set, self.outputs, self.out_buffers = self._dataset(self.out_sizes)
        real = inputs - client.has_gears  # without the selector
        self.host_inputs = [self._host(size) for size in self.sizes[:real]]
        self.host_output = self._host(self.out_sizes[0])
        # The output of the inference that was submitted last.
        self.shape: Sequence[int] = ()
        self.dtype: np.dtype = np.dtype(np.float32)
        self.size = 0  # bytes

    def _dataset(self, sizes: list[int]) -> tuple[int, list[int], list[int]]:
        """(dataset, pointers to device memory, data buffers), for buffers of these sizes."""
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
        """Copy the inputs to the device, execute, copy the output back; an asynchronous client only queues this."""
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
        """The content of the host's output buffer, without waiting for the device."""
        return np.frombuffer(ctypes.string_at(self.host_output, self.size), self.dtype).reshape(self.shape)

    def collect(self) -> np.ndarray:
        """Wait for the stream if the client is asynchronous; returns the output."""
        client = self.client
        if client.asynchronous:
            client.call("rt.synchronize_stream", client.stream)
        content = client.acl.util.ptr_to_bytes(self.host_output, self.size)
        return np.frombuffer(content, self.dtype).reshape(self.shape)
