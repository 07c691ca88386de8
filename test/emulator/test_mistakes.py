# SPDX-License-Identifier: Apache-2.0
"""A broken contract is caught at once, bad order gives advice, and a leak is caught at the end."""

from __future__ import annotations

import ctypes
import json
import re
import signal
import struct
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import pytest

from . import client as correct_client
from .client import D2H, H2D, CallFailed, Client, report, run_program, utterance

Expected = TypeVar("Expected")
Function = TypeVar("Function", bound=Callable[..., None])

# The marked functions, with the text or texts that the emulator has to report.
MISTAKES: list[tuple[Callable[..., None], str]] = []
ASYNCHRONOUS_MISTAKES: list[tuple[Callable[..., None], str]] = []
BAD_ORDER: list[tuple[Callable[..., None], str]] = []
ASYNCHRONOUS_BAD_ORDER: list[tuple[Callable[..., None], str]] = []
LEAKS: list[tuple[Callable[..., None], tuple[str, ...]]] = []


def mistake(text: str) -> Callable[[Function], Function]:
    """Mark a function that breaks the contract: acl has to raise ContractViolation with ``text`` in its message.

    The function gets acl, a synchronous client and the client's slot.
    """
    return _marker(MISTAKES, text)


def asynchronous_mistake(text: str) -> Callable[[Function], Function]:
    """The same for a function that gets acl, an asynchronous client and the client's two slots."""
    return _marker(ASYNCHRONOUS_MISTAKES, text)


def bad_order(text: str) -> Callable[[Function], Function]:
    """Mark a function that the real library accepts: acl has to advise against it, and in strict mode to refuse it.

    The function gets acl, a synchronous client and the client's slot.
    """
    return _marker(BAD_ORDER, text)


def asynchronous_bad_order(text: str) -> Callable[[Function], Function]:
    """The same for a function that gets acl, an asynchronous client and the client's two slots."""
    return _marker(ASYNCHRONOUS_BAD_ORDER, text)


def leak(*texts: str) -> Callable[[Function], Function]:
    """Mark a function that creates resources and releases none: a leak has to be reported for each of the texts."""
    return _marker(LEAKS, texts)


def _marker(table: list[tuple[Callable[..., None], Expected]], expected: Expected) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        table.append((function, expected))
        return function

    return mark


def names(table: list[tuple[Callable[..., None], Expected]]) -> list[str]:
    return [function.__name__ for function, _ in table]


@pytest.fixture
def async_client(acl, models):
    """An asynchronous client with two slots."""
    return Client(acl, models / "one.om", asynchronous=True, slots=2)


# Synchronous clients


@mistake("not host memory")
def reads_device_memory(acl, client, slot):
    acl.util.ptr_to_bytes(slot.outputs[0], 4)


@mistake("freed")
def uses_freed_memory(acl, client, slot):
    pointer, _ = acl.rt.malloc(64, 0)
    acl.rt.free(pointer)
    acl.rt.memcpy(pointer, 64, slot.host_inputs[0], 64, H2D)


@mistake("freed")
def frees_twice(acl, client, slot):
    pointer, _ = acl.rt.malloc(64, 0)
    acl.rt.free(pointer)
    acl.rt.free(pointer)


@mistake("inside the host memory")
def frees_host_as_device(acl, client, slot):
    acl.rt.free(slot.host_inputs[0])


@bad_order("beyond the end of the device memory")
def copies_beyond_the_end(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 176, slot.host_inputs[0], 160, H2D)


@mistake("beyond the end of the host memory")
def reads_beyond_the_end(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 160, slot.host_inputs[0] + 32, 160, H2D)


@bad_order("kind 2 does not fit")
def swaps_the_kind(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 160, slot.host_inputs[0], 160, D2H)


@mistake("not device memory")
def passes_host_memory_to_the_model(acl, client, slot):
    acl.update_data_buffer(slot.in_buffers[0], slot.host_inputs[0], 160)
    slot.set_gear(20)
    slot.execute()


@mistake("no multiple of 64")
def starts_a_buffer_anywhere(acl, client, slot):
    pointer, _ = acl.rt.malloc(320, 0)
    acl.update_data_buffer(slot.in_buffers[0], pointer + 32, 160)
    slot.set_gear(20)
    slot.execute()


@mistake("another device")
def passes_memory_of_another_device(acl, client, slot):
    context, _ = acl.rt.get_context()
    acl.rt.create_context(1)
    pointer, _ = acl.rt.malloc(160, 0)
    acl.rt.set_context(context)
    acl.update_data_buffer(slot.in_buffers[0], pointer, 160)
    slot.set_gear(20)
    slot.execute()


@mistake("a handle, not memory")
def passes_a_handle_as_memory(acl, client, slot):
    acl.rt.memcpy(slot.inputs[0], 160, slot.in_set, 160, H2D)


@mistake("has not kept the bytes object")
def drops_the_bytes(acl, client, slot):
    pointer = acl.util.bytes_to_ptr(bytes(bytearray(160)))
    acl.rt.memcpy(slot.inputs[0], 160, pointer, 160, H2D)


@mistake("wrote beyond the end")
def overruns_host_memory(acl, client, slot):
    ctypes.memset(slot.host_inputs[0], 0, 161)
    acl.rt.free_host(slot.host_inputs[0])


@bad_order("nobody has set a gear")
def never_sets_a_gear(acl, client, slot):
    acl.rt.memset(slot.inputs[0], 160, 0, 160)
    assert acl.mdl.execute(client.model, slot.in_set, slot.out_set) == 0


@bad_order("nobody has set a gear")
def fills_the_selector_itself(acl, client, slot):
    slot.copy(slot.inputs[0], slot.host_inputs[0], 80, H2D)
    gear = struct.pack("<i", 20)
    acl.rt.memcpy(slot.inputs[1], 4, acl.util.bytes_to_ptr(gear), 4, H2D)
    assert acl.mdl.execute(client.model, slot.in_set, slot.out_set) == 0


@mistake("which is no gear")
def fills_the_selector_with_another_number(acl, client, slot):
    gear = struct.pack("<i", 21)
    acl.rt.memcpy(slot.inputs[1], 4, acl.util.bytes_to_ptr(gear), 4, H2D)
    acl.mdl.execute(client.model, slot.in_set, slot.out_set)


@mistake("the last choice of a gear failed")
def goes_on_after_a_refused_gear(acl, client, slot):
    slot.set_gear(20)
    with pytest.raises(CallFailed, match="145013"):
        slot.set_gear(21)
    acl.mdl.execute(client.model, slot.in_set, slot.out_set)


@bad_order("never written")
def never_writes_the_input(acl, client, slot):
    slot.set_gear(20)
    slot.execute()


@bad_order("left from an earlier run")
def writes_less_than_the_gear(acl, client, slot):
    client.infer(utterance(40))
    slot.set_gear(20)
    slot.copy(slot.inputs[0], slot.host_inputs[0], 64, H2D)
    slot.execute()


@bad_order("selector has 64 bytes")
def allocates_a_large_selector(acl, client, slot):
    pointer, _ = acl.rt.malloc(64, 0)
    acl.update_data_buffer(slot.in_buffers[1], pointer, 64)
    slot.set_gear(20)


@mistake("the selector holds")
def overwrites_the_selector(acl, client, slot):
    slot.set_gear(20)
    slot.copy(slot.inputs[0], slot.host_inputs[0], 160, H2D)
    slot.copy(slot.inputs[1], slot.host_inputs[0], 4, H2D)
    slot.execute()


@mistake("64 bytes, 80 are needed")
def shrinks_an_input_below_the_gear(acl, client, slot):
    acl.update_data_buffer(slot.in_buffers[0], slot.inputs[0], 64)
    client.infer(utterance(20))


@bad_order("96 bytes, the model reports 160")
def shrinks_an_input_to_the_gear(acl, client, slot):
    acl.update_data_buffer(slot.in_buffers[0], slot.inputs[0], 96)
    client.infer(utterance(20))


@bad_order("count 4 is above")
def asks_for_more_gears_than_there_are(acl, client, slot):
    assert len(acl.mdl.get_input_dynamic_dims(client.desc, -1, 4)[0]) == 3


@bad_order("no set_device(1)")
def resets_a_device_that_nobody_set(acl, client, slot):
    acl.rt.reset_device(1)


@mistake("64 bytes, 108 are needed")
def shrinks_an_output(acl, client, slot):
    acl.update_data_buffer(slot.out_buffers[0], slot.outputs[0], 64)
    client.infer(utterance(20))


@mistake("begins inside")
def shares_memory_between_buffers(acl, client, slot):
    acl.update_data_buffer(slot.out_buffers[0], slot.inputs[0], 160)
    client.infer(utterance(10))


@mistake("destroyed")
def executes_with_a_destroyed_buffer(acl, client, slot):
    slot.set_gear(20)
    acl.destroy_data_buffer(slot.in_buffers[0])
    slot.execute()


@mistake("already destroyed")
def uses_a_destroyed_dataset(acl, client, slot):
    dataset = acl.mdl.create_dataset()
    acl.mdl.destroy_dataset(dataset)
    acl.mdl.get_dataset_num_buffers(dataset)


@mistake("expected a dataset, got the data buffer")
def confuses_handles(acl, client, slot):
    acl.mdl.destroy_dataset(slot.in_buffers[0])


@mistake("no handle")
def invents_a_handle(acl, client, slot):
    acl.rt.synchronize_stream(12345)


@bad_order("has to be destroyed first")
def destroys_a_dataset_before_its_buffers(acl, client, slot):
    acl.mdl.destroy_dataset(slot.in_set)


@bad_order("has to be destroyed first")
def frees_memory_before_its_buffer(acl, client, slot):
    acl.rt.free(slot.inputs[0])


@bad_order("has to be destroyed first")
def unloads_before_the_datasets(acl, client, slot):
    client.infer(utterance(20))
    acl.mdl.unload(client.model)


@bad_order("has to be unloaded before")
def destroys_the_description_first(acl, client, slot):
    acl.mdl.destroy_desc(client.desc)


@bad_order("before its device is reset")
def resets_the_device_first(acl, client, slot):
    acl.rt.reset_device(0)


@bad_order("has to be released first")
def destroys_the_context_first(acl, client, slot):
    acl.rt.destroy_context(acl.rt.get_context()[0])


@mistake("another context")
def uses_a_model_in_another_context(acl, client, slot):
    acl.rt.create_context(0)
    acl.mdl.execute(client.model, slot.in_set, slot.out_set)


@bad_order("after acl.finalize")
def calls_after_finalize(acl, client, slot):
    acl.finalize()
    acl.rt.malloc(64, 0)


@bad_order("called after acl.finalize")
def releases_after_finalize(acl, client, slot):
    acl.finalize()
    assert acl.rt.destroy_stream(client.stream) == 0
    assert acl.rt.set_context(12345) == 0
    assert acl.mdl.get_dataset_num_buffers(slot.in_set) == 2


@bad_order("has to be freed before its device is reset")
def resets_the_device_before_it_frees(acl, client, slot):
    acl.rt.set_device(1)
    acl.rt.malloc(64, 0)
    acl.rt.reset_device(1)


@mistake("touched the list")
def touches_a_failed_list(acl, client, slot):
    gears, code = acl.mdl.get_input_dynamic_dims(client.desc, -1, 1)
    assert code == 100000
    list(gears)


@mistake("129 dims")
def overruns_the_dims(acl, client, slot):
    dims = {"dimCount": 129, "dims": [1] * 129}
    acl.mdl.set_input_dynamic_dims(client.model, slot.in_set, 1, dims)


@pytest.mark.parametrize(("mistake", "text"), MISTAKES, ids=names(MISTAKES))
def test_a_broken_client_is_caught(start, models, mistake, text):
    acl = start(DEVICES=2)
    client = Client(acl, models / "one.om")
    with pytest.raises(acl.ContractViolation, match=text):
        mistake(acl, client, client.slots[0])
    violation = report().violations[-1]
    assert text in violation["text"]
    assert violation["at"].startswith((__file__, correct_client.__file__))  # the client's line, not the emulator's


# Asynchronous clients


@asynchronous_bad_order("malloc_host")
def copies_from_ordinary_memory(acl, client, slot, other):
    values = utterance(20)[0]
    acl.rt.memcpy_async(slot.inputs[0], 80, values.ctypes.data, 80, H2D, client.stream)


@asynchronous_mistake("changed the source")
def changes_the_source_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    ctypes.memset(slot.host_inputs[0], 0, 4)
    slot.collect()


@asynchronous_mistake("still in use by memcpy_async")
def frees_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.rt.free_host(slot.host_output)


@asynchronous_mistake("still in use by execute_async")
def destroys_a_dataset_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.mdl.destroy_dataset(slot.out_set)


@asynchronous_bad_order("still in flight")
def destroys_a_stream_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.rt.destroy_stream(client.stream)


@asynchronous_mistake("still in use by execute_async")
def sets_a_gear_in_flight(acl, client, slot, other):
    slot.submit(utterance(20))
    slot.set_gear(10)


@asynchronous_mistake("still in use by execute_async")
def shares_a_selector(acl, client, slot, other):
    acl.update_data_buffer(other.in_buffers[1], slot.inputs[1], 4)
    slot.submit(utterance(20))
    other.submit(utterance(10))


@asynchronous_mistake("still in use by")
def copies_in_flight_output_at_once(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.rt.memcpy(slot.host_output, 4, slot.outputs[0], 4, D2H)


@asynchronous_mistake("still in use by memcpy_async")
def reads_before_synchronising(acl, client, slot, other):
    slot.submit(utterance(20))
    acl.util.ptr_to_bytes(slot.host_output, 4)


@asynchronous_mistake("another stream")
def runs_a_model_on_two_streams(acl, client, slot, other):
    slot.submit(utterance(20))
    client.stream, _ = acl.rt.create_stream()
    other.submit(utterance(20))


@asynchronous_mistake("unordered")
def copies_on_an_unordered_stream(acl, client, slot, other):
    slot.submit(utterance(20))
    stream, _ = acl.rt.create_stream()
    acl.rt.memcpy_async(other.host_output, 4, slot.outputs[0], 4, D2H, stream)


@asynchronous_bad_order("recorded again")
def records_an_event_twice(acl, client, slot, other):
    event, _ = acl.rt.create_event()
    acl.rt.record_event(event, client.stream)
    acl.rt.record_event(event, client.stream)


@asynchronous_bad_order("has to be destroyed first")
def destroys_a_stream_before_its_event(acl, client, slot, other):
    event, _ = acl.rt.create_event()
    acl.rt.record_event(event, client.stream)
    acl.rt.synchronize_stream(client.stream)
    acl.rt.destroy_stream(client.stream)


@asynchronous_mistake("0 bytes, 108 are needed")
def leaves_an_output_to_the_library(acl, client, slot, other):
    acl.update_data_buffer(slot.out_buffers[0], 0, 0)
    slot.set_gear(20)
    slot.execute()


@pytest.mark.parametrize(("mistake", "text"), ASYNCHRONOUS_MISTAKES, ids=names(ASYNCHRONOUS_MISTAKES))
def test_a_broken_asynchronous_client_is_caught(acl, async_client, mistake, text):
    with pytest.raises(acl.ContractViolation, match=text):
        mistake(acl, async_client, *async_client.slots)
    assert text in report().violations[-1]["text"]


# Order that the real library does not enforce


@pytest.mark.parametrize(("act", "text"), BAD_ORDER, ids=names(BAD_ORDER))
def test_bad_order_gives_advice(start, models, act, text):
    acl = start(STRICT=0, DEVICES=2)
    client = Client(acl, models / "one.om")
    act(acl, client, client.slots[0])
    advice = report().advice[-1]
    assert text in advice["text"] and advice["call"].startswith("acl.")
    assert advice["at"].startswith((__file__, correct_client.__file__))
    assert report().violations == []


@pytest.mark.parametrize(("act", "text"), BAD_ORDER, ids=names(BAD_ORDER))
def test_strict_mode_refuses_bad_order(start, models, act, text):
    acl = start(STRICT=1, DEVICES=2)
    client = Client(acl, models / "one.om")
    with pytest.raises(acl.ContractViolation, match=re.escape(text)):
        act(acl, client, client.slots[0])
    assert text in report().advice[-1]["text"]
    assert report().violations == []


@pytest.mark.parametrize("strict", [0, 1])
@pytest.mark.parametrize(("act", "text"), ASYNCHRONOUS_BAD_ORDER, ids=names(ASYNCHRONOUS_BAD_ORDER))
def test_bad_order_of_an_asynchronous_client(start, models, act, text, strict):
    acl = start(STRICT=strict)
    client = Client(acl, models / "one.om", asynchronous=True, slots=2)
    with pytest.raises(acl.ContractViolation, match=text) if strict else nullcontext():
        act(acl, client, *client.slots)
    assert text in report().advice[-1]["text"]
    assert report().violations == []


def test_wrappers_of_single_resources_may_release_in_any_order(tmp_path, models):
    """Each object releases its own resource in __del__: the outer one first, at the very end of the process."""
    code = f"""
        import acl

        class Buffer:
            def __init__(self, size):
                self.pointer, _ = acl.rt.malloc(size, 0)
                self.handle = acl.create_data_buffer(self.pointer, size)

            def __del__(self):
                acl.destroy_data_buffer(self.handle)
                acl.rt.free(self.pointer)

        class Dataset:
            def __init__(self, sizes):
                self.handle = acl.mdl.create_dataset()
                self.buffers = [Buffer(size) for size in sizes]
                for buffer in self.buffers:
                    acl.mdl.add_dataset_buffer(self.handle, buffer.handle)

            def __del__(self):
                acl.mdl.destroy_dataset(self.handle)

        class Model:
            def __init__(self):
                acl.init()
                acl.rt.set_device(0)
                self.number, _ = acl.mdl.load_from_file({str(models / "fixed.om")!r})
                self.inputs, self.outputs = Dataset([120]), Dataset([168])
                acl.rt.memset(self.inputs.buffers[0].pointer, 120, 0, 120)
                print(acl.mdl.execute(self.number, self.inputs.handle, self.outputs.handle))

            def __del__(self):
                acl.mdl.unload(self.number)

        model = Model()
    """
    done = run_program(code, STRICT=0, REPORT=tmp_path / "report.json")
    assert (done.returncode, done.stdout) == (0, "0\n")
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found["violations"] == []
    assert {entry["call"] for entry in found["advice"]} == {"acl.mdl.unload", "acl.mdl.destroy_dataset"}
    assert [leak.partition(":")[0] for leak in found["leaks"]] == ["device 0", "acl.finalize was not called"]


def test_advice_is_given_once(start, models):
    client = Client(start(STRICT=0), models / "one.om")
    for _ in range(3):
        shrinks_an_input_to_the_gear(client.acl, client, client.slots[0])
    assert len(report().advice) == 1


# Leaks


@leak("stream created at")
def forgets_a_stream(acl):
    acl.rt.create_stream()


@leak("device memory created at", "host memory created at")
def forgets_memory(acl):
    acl.rt.malloc(64, 0)
    acl.rt.malloc_host(64)


@leak("dataset created at")
def forgets_a_dataset(acl):
    acl.mdl.create_dataset()


@leak("model description created at")
def forgets_a_description(acl):
    acl.mdl.create_desc()


@leak("context created at")
def forgets_a_context(acl):
    acl.rt.create_context(0)


@leak()
def forgets_the_device(acl):
    pass


@pytest.mark.parametrize(("forget", "texts"), LEAKS, ids=names(LEAKS))
def test_leaks_are_reported(acl, forget, texts):
    acl.init()
    acl.rt.set_device(0)  # which nobody resets
    forget(acl)
    assert acl.finalize() == 0
    leaks = [*texts, "device 0"]
    assert [any(text in leak for leak in report().leaks) for text in leaks] == [True] * len(leaks)
    assert len(report().leaks) == len(leaks)


# The process of a broken client


@pytest.mark.parametrize("strict", [0, 1])
def test_only_strict_mode_ends_a_process_for_advice_and_leaks(tmp_path, strict):
    code = """
        import acl

        acl.init()
        acl.rt.set_device(0)
        acl.rt.create_stream()
        try:
            acl.rt.reset_device(0)
        except acl.ContractViolation:
            pass
    """
    path = tmp_path / "report.json"
    done = run_program(code, REPORT=path, STRICT=strict)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert done.returncode == (70 if strict else 0)
    assert "advice: acl.rt.reset_device: the context" in done.stderr and "leak: stream" in done.stderr
    assert (found["violations"], len(found["advice"])) == ([], 1)


def test_a_global_object_may_release_at_the_very_end(tmp_path):
    """Its __del__ runs after the exit handlers, so that nothing leaks; the client's output is whole, too."""
    code = """
        import acl

        class Device:
            def __init__(self):
                assert acl.init() == 0
                assert acl.rt.set_device(0) == 0
                self.stream, _ = acl.rt.create_stream()

            def __del__(self):
                acl.rt.destroy_stream(self.stream)
                acl.rt.reset_device(0)
                acl.finalize()
                print("released")

        device = Device()
    """
    path = tmp_path / "report.json"
    done = run_program(code, REPORT=path, STRICT=1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "released\n", "")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["leaks"], found["calls"]["acl.finalize"]) == ([], 1)


def test_a_violation_at_the_very_end_counts(tmp_path):
    code = """
        import acl

        class Device:
            def __del__(self):
                acl.rt.free(12345678)

        acl.init()
        acl.rt.set_device(0)
        device = Device()
    """
    done = run_program(code)
    assert done.returncode == 70
    assert "violation: acl.rt.free" in done.stderr


def test_a_process_that_ends_without_its_exit_handlers_leaves_a_report(tmp_path):
    code = """
        import os

        import acl

        acl.init()
        acl.rt.set_device(0)
        try:
            acl.rt.free(12345678)
        except BaseException:
            os._exit(3)
    """
    path = tmp_path / "report.json"
    assert run_program(code, REPORT=path).returncode == 3
    assert [entry["call"] for entry in json.loads(path.read_text(encoding="utf-8"))["violations"]] == ["acl.rt.free"]


def test_a_swallowed_violation_is_still_reported(tmp_path):
    code = """
        import acl

        acl.init()
        acl.rt.set_device(0)
        try:
            acl.rt.free(12345678)
        except BaseException:
            pass
        print("result")
    """
    path = tmp_path / "report.json"
    done = run_program(code, REPORT=path)
    assert done.returncode == 70
    assert done.stdout == "result\n"
    assert "violation: acl.rt.free" in done.stderr and "leak: device 0" in done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [violation["call"] for violation in found["violations"]] == ["acl.rt.free"]
    assert "acl.finalize was not called" in found["leaks"]
    assert found["calls"] == {"acl.init": 1, "acl.rt.free": 1, "acl.rt.set_device": 1}
    assert (found["total_calls"], found["failable_calls"], found["injected"]) == (3, 3, None)


def test_a_clean_process_keeps_its_own_status(tmp_path):
    code = """
        import sys

        import acl

        acl.init()
        acl.finalize()
        sys.exit(3)
    """
    path = tmp_path / "report.json"
    done = run_program(code, REPORT=path, FAIL_CALL=2)
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(path.read_text(encoding="utf-8"))["injected"] == "acl.finalize"


def test_device_memory_is_unreadable():
    code = """
        import ctypes

        import acl

        acl.init()
        acl.rt.set_device(0)
        ctypes.string_at(acl.rt.malloc(64, 0)[0], 1)
    """
    assert run_program(code).returncode == -signal.SIGSEGV
