# SPDX-License-Identifier: Apache-2.0
"""Every call that public clients use beyond those of the suite does what its documentation says."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .client import D2H, H2D, SELECTOR, CallFailed, Client, assert_clean, compile_om, expected, report, utterance

SYNC, TIME_LINE = 1, 8  # flags of events
NOT_READY, COMPLETE = 0, 1  # answers of query_event_status
FINISHED, WAITING = 0, 1  # answers of query_event_wait_status
BLOCKS, GOES_ON = 1, 0  # what launch_callback means for the stream


@pytest.fixture
def opened(acl):
    """An acl with device 0 open, which the test leaves clean."""
    assert acl.init() == 0
    assert acl.rt.set_device(0) == 0
    yield acl
    assert acl.rt.reset_device(0) == 0
    assert acl.finalize() == 0
    assert_clean()


@pytest.fixture
def stream(opened):
    handle, code = opened.rt.create_stream()
    assert code == 0
    yield handle
    assert opened.rt.destroy_stream(handle) == 0


# What the host and the device are


def test_version_and_log(acl):
    assert acl.get_version() == (0, 0, 0, 0)
    assert acl.app_log(1, "a message") is None
    with pytest.raises(TypeError, match=r"acl\.app_log args parse failed"):
        acl.app_log("a message")


def test_a_signal_may_end_a_call_that_waits_without_the_lock(opened, monkeypatch):
    def interrupted(_lock):
        raise KeyboardInterrupt

    lock = sys.modules["cann_emulator.calls"]._lock
    monkeypatch.setattr(type(lock), "acquire_again", interrupted)
    identity, _ = opened.util.start_thread(lambda _: None, [None])
    with pytest.raises(KeyboardInterrupt):
        opened.util.stop_thread(identity)
    others = threading.Thread(target=opened.get_version)
    others.start()
    others.join(timeout=10)
    assert not others.is_alive()


@pytest.mark.parametrize("attribute", [0, 1])
def test_memory_info_counts_what_is_allocated(opened, attribute):
    free, total, code = opened.rt.get_mem_info(attribute)
    assert (total, code) == (21534 << 20, 0)
    pointer, _ = opened.rt.malloc(1000, 0)
    assert opened.rt.get_mem_info(attribute) == (free - 1000, total, 0)
    assert opened.rt.free(pointer) == 0


def test_memory_info_needs_a_context(acl):
    acl.init()
    assert acl.rt.get_mem_info(1) == (0, 0, 107002)


def test_memory_is_set_and_results_are_copied_into_bytes(opened):
    pointer, _ = opened.rt.malloc(64, 0)
    assert opened.rt.memset(pointer, 64, 7, 64) == 0
    target = bytes(bytearray(64))
    assert opened.rt.memcpy(opened.util.bytes_to_ptr(target), 64, pointer, 64, D2H) == 0
    assert target == bytes([7]) * 64
    assert opened.rt.free(pointer) == 0


def test_memory_is_set_in_the_order_of_a_stream(opened, stream):
    pointer, _ = opened.rt.malloc(64, 0)
    assert opened.rt.memset_async(pointer, 64, 7, 65, stream) == 107000
    assert opened.rt.memset_async(pointer, 64, 7, 64, stream) == 0
    assert opened.rt.synchronize_stream(stream) == 0
    target = bytes(bytearray(64))
    assert opened.rt.memcpy(opened.util.bytes_to_ptr(target), 64, pointer, 64, D2H) == 0
    assert target == bytes([7]) * 64
    assert opened.rt.free(pointer) == 0


def test_large_memory_takes_only_what_is_used(opened):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pointers = [opened.rt.malloc(4 << 30, 0)[0], opened.rt.malloc_host(2 << 30)[0]]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
    assert opened.rt.free(pointers[0]) == 0
    assert opened.rt.free_host(pointers[1]) == 0


def test_memory_belongs_to_the_device_and_not_to_a_context(acl):
    acl.init("")
    context, _ = acl.rt.create_context(0)
    pointers = [acl.rt.malloc(64, 0)[0], acl.rt.malloc_host(64)[0]]
    assert acl.rt.destroy_context(context) == 0
    assert (acl.rt.free(pointers[0]), acl.rt.free_host(pointers[1])) == (0, 0)
    assert acl.finalize() == 0
    assert_clean()


def test_a_description_that_nobody_has_filled(opened):
    desc = opened.mdl.create_desc()
    assert (opened.mdl.get_num_inputs(desc), opened.mdl.get_input_dims(desc, 0)) == (0, ({}, 100000))
    assert opened.mdl.destroy_desc(desc) == 0


def test_a_data_buffer_may_hold_anything_until_it_is_used(opened):
    buffer = opened.create_data_buffer(0, 1)
    assert opened.update_data_buffer(buffer, 0, 0) == 0
    assert opened.destroy_data_buffer(buffer) == 0


def test_structures_are_there_before_acl_is(start):
    acl = start(STRICT=0)
    dataset = acl.mdl.create_dataset()
    assert acl.rt.set_device(0) == 0
    assert acl.init() == 0
    assert acl.mdl.destroy_dataset(dataset) == 0
    assert acl.rt.reset_device_force(0) == 0
    assert acl.finalize() == 0
    assert {entry["call"] for entry in report().advice} == {"acl.mdl.create_dataset", "acl.rt.set_device"}
    assert (report().violations, report().leaks) == ([], [])


def test_streams_have_priorities(opened):
    assert opened.rt.device_get_stream_priority_range() == (7, 0, 0)
    stream, code = opened.rt.create_stream_with_config(0, 1)
    assert (code, opened.rt.synchronize_stream(stream), opened.rt.destroy_stream(stream)) == (0, 0, 0)


# Events


def test_an_event_is_asked_without_waiting(opened, stream):
    event, _ = opened.rt.create_event_with_flag(SYNC | TIME_LINE)
    assert opened.rt.record_event(event, stream) == 0
    assert opened.rt.stream_query(stream) == (1, 0)
    answers = [opened.rt.query_event_status(event) for _ in range(3)]
    assert answers == [(COMPLETE, 0), (COMPLETE, 0), (COMPLETE, 0)]  # the second question
    assert opened.rt.record_event(event, stream) == 0
    assert [opened.rt.query_event(event) for _ in range(2)] == [(1, 0), (0, 0)]
    assert opened.rt.stream_query(stream) == (0, 0)
    assert opened.rt.destroy_event(event) == 0


def test_an_event_that_was_never_recorded(opened, stream):
    plain, extended = opened.rt.create_event()[0], opened.rt.create_event_ex_with_flag(SYNC)[0]
    assert [opened.rt.query_event_status(event) for event in (plain, extended)] == [(NOT_READY, 0), (COMPLETE, 0)]
    assert [opened.rt.synchronize_event(event) for event in (plain, extended)] == [0, 0]
    assert [opened.rt.stream_wait_event(stream, event) for event in (plain, extended)] == [107000, 0]
    assert [opened.rt.destroy_event(event) for event in (plain, extended)] == [0, 0]


def test_an_event_on_the_simulated_clock(start):
    acl = start(DEVICE_MS=50)
    acl.init()
    acl.rt.set_device(0)
    stream, _ = acl.rt.create_stream()
    event, _ = acl.rt.create_event()
    acl.rt.record_event(event, stream)
    assert acl.rt.query_event_status(event) == (COMPLETE, 0)  # no execution is before it


def test_who_waits_for_an_event(opened, stream):
    other, _ = opened.rt.create_stream()
    event, _ = opened.rt.create_event()
    assert opened.rt.record_event(event, stream) == 0
    assert opened.rt.stream_wait_event(other, event) == 0
    assert [opened.rt.query_event_wait_status(event) for _ in range(2)] == [(WAITING, 0), (FINISHED, 0)]
    assert opened.rt.stream_wait_event(other, event) == 0
    assert opened.rt.query_event_wait_status(event) == (WAITING, 0)
    assert opened.rt.synchronize_stream(other) == 0
    assert opened.rt.query_event_wait_status(event) == (FINISHED, 0)
    assert opened.rt.reset_event(event, other) == 0
    assert opened.rt.synchronize_stream(other) == 0
    assert opened.rt.event_elapsed_time(event, event) == (0.0, 507000)  # as if it was never recorded
    assert opened.rt.destroy_event(event) == 0
    assert opened.rt.destroy_stream(other) == 0


def test_an_extended_event_may_be_recorded_again_at_once(opened, stream):
    first, code = opened.rt.create_event_ex_with_flag(TIME_LINE)
    last, _ = opened.rt.create_event_ex_with_flag(TIME_LINE)
    assert code == 0
    for _ in range(3):
        assert opened.rt.record_event(first, stream) == 0
    assert opened.rt.record_event(last, stream) == 0
    assert opened.rt.synchronize_stream(stream) == 0
    elapsed_ms, code = opened.rt.event_elapsed_time(first, last)
    assert code == 0 and elapsed_ms >= 0
    assert [opened.rt.destroy_event(event) for event in (first, last)] == [0, 0]


@pytest.mark.parametrize(("create", "reset"), [("create_event_with_flag", 0), ("create_event_ex_with_flag", 207000)])
def test_what_an_event_may_be_used_for(opened, stream, create, reset):
    event, _ = getattr(opened.rt, create)(SYNC)
    assert opened.rt.record_event(event, stream) == 0
    assert opened.rt.stream_wait_event(stream, event) == 0
    assert opened.rt.query_event_wait_status(event)[1] == 0
    assert opened.rt.reset_event(event, stream) == reset
    assert opened.rt.destroy_event(event) == 0  # in use, which is allowed
    assert opened.rt.synchronize_stream(stream) == 0
    assert opened.rt.create_event_ex_with_flag(0) == (0, 107000)


def test_the_time_between_events_after_waiting_for_the_last_one(start, models):
    client = Client(start(STRICT=0), models / "one.om", asynchronous=True)
    rt, events = client.acl.rt, [client.call("rt.create_event") for _ in range(2)]
    for event in events:
        assert rt.record_event(event, client.stream) == 0
    assert rt.event_elapsed_time(*events) == (0.0, 107006)
    assert rt.synchronize_event(events[1]) == 0
    elapsed_ms, code = rt.event_elapsed_time(*events)
    assert code == 0 and elapsed_ms >= 0
    assert [entry["call"] for entry in report().advice] == ["acl.rt.event_elapsed_time"]


# Callbacks


@pytest.fixture
def reporter(opened):
    """The id of a thread that runs callbacks until the test ends."""
    going_on = [True]

    def loop(arguments):
        while arguments[0]:
            opened.rt.process_report(10)

    thread, code = opened.util.start_thread(loop, going_on)
    assert code == 0
    yield thread
    going_on[0] = False
    assert opened.util.stop_thread(thread) == 0
    assert opened.util.stop_thread(thread) != 0


@pytest.mark.parametrize("default_stream", [False, True])
def test_callbacks_run_on_their_thread_in_order(opened, stream, reporter, default_stream):
    stream = 0 if default_stream else stream
    seen = []
    assert opened.rt.subscribe_report(reporter, stream) == 0
    for name in "abc":
        callback = lambda data: seen.append((threading.get_ident(), *data))  # noqa: E731
        assert opened.rt.launch_callback(callback, [name], BLOCKS, stream) == 0
    assert opened.rt.synchronize_stream(stream) == 0
    assert seen == [(reporter, name) for name in "abc"]
    assert opened.rt.unsubscribe_report(reporter, stream) == 0


def test_a_thread_of_the_client_runs_callbacks_without_a_synchronisation(opened, stream):
    seen = []

    def loop():
        while not seen:
            opened.rt.process_report(100)

    thread = threading.Thread(target=loop)
    thread.start()
    assert opened.rt.subscribe_report(thread.ident, stream) == 0
    assert opened.rt.launch_callback(seen.append, None, BLOCKS, stream) == 0
    thread.join(60)
    assert seen == [None]
    assert opened.rt.unsubscribe_report(thread.ident, stream) == 0


def test_a_callback_reads_the_results_before_the_next_execution(acl, models):
    """The next execution, which is queued behind the callback, overwrites the outputs only after its end."""
    client = Client(acl, models / "one.om", asynchronous=True)
    slot, seen, context = client.slots[0], [], acl.rt.get_context()[0]
    going_on = [True]

    def loop(arguments):
        acl.rt.set_context(context)
        while arguments[0]:
            acl.rt.process_report(10)

    def read(size):
        target = bytes(bytearray(size))
        assert acl.rt.memcpy(acl.util.bytes_to_ptr(target), size, slot.outputs[0], size, D2H) == 0
        seen.append(np.frombuffer(target, np.float32).reshape(1, -1, 3))

    thread, _ = acl.util.start_thread(loop, going_on)
    assert acl.rt.subscribe_report(thread, client.stream) == 0
    values = utterance(20)
    slot.set_gear(20)
    ctypes.memmove(slot.host_inputs[0], values[0].ctypes.data, values[0].nbytes)
    slot.copy(slot.inputs[0], slot.host_inputs[0], values[0].nbytes, H2D)
    for _ in range(2):
        slot.execute()
        assert acl.rt.launch_callback(read, 9 * 3 * 4, BLOCKS, client.stream) == 0
    assert acl.rt.synchronize_stream(client.stream) == 0
    assert [np.array_equal(each, expected(models, "one", values)) for each in seen] == [True, True]
    assert acl.rt.unsubscribe_report(thread, client.stream) == 0
    going_on[0] = False
    assert acl.util.stop_thread(thread) == 0
    assert client.close() == []
    assert_clean()


def test_a_callback_that_does_not_block(opened, stream, reporter):
    entered, leave = threading.Event(), threading.Event()

    def wait(_):
        entered.set()
        leave.wait(60)

    assert opened.rt.subscribe_report(reporter, stream) == 0
    assert opened.rt.launch_callback(wait, None, GOES_ON, stream) == 0
    assert opened.rt.synchronize_stream(stream) == 0  # though the callback has not ended
    assert entered.wait(60) and not leave.is_set()
    leave.set()
    assert opened.rt.unsubscribe_report(reporter, stream) == 0


def test_callbacks_need_a_thread(opened, stream, reporter):
    rt = opened.rt
    assert rt.launch_callback(print, None, BLOCKS, stream) == 107015
    assert rt.unsubscribe_report(reporter, stream) == 107011
    assert [rt.process_report(timeout_ms) for timeout_ms in (-2, -1, 0)] == [100000, 107012, 107012]
    assert [rt.subscribe_report(reporter, stream) for _ in range(2)] == [0, 107011]
    assert rt.unsubscribe_report(threading.get_ident(), stream) == 107012
    assert rt.unsubscribe_report(reporter, stream) == 0
    assert rt.subscribe_report(threading.get_ident(), stream) == 0
    assert rt.process_report(0) == 507012
    assert rt.unsubscribe_report(threading.get_ident(), stream) == 0
    with pytest.raises(TypeError, match="callable"):
        rt.launch_callback(7, None, BLOCKS, stream)


def test_a_callback_that_raises_does_not_stop_the_stream(opened, stream, reporter, capsys):
    assert opened.rt.subscribe_report(reporter, stream) == 0
    assert opened.rt.launch_callback(lambda data: 1 / data, 0, BLOCKS, stream) == 0
    assert opened.rt.synchronize_stream(stream) == 0
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert opened.rt.unsubscribe_report(reporter, stream) == 0


def test_callbacks_on_the_simulated_clock(start, models):
    client = Client(start(DEVICE_MS=50), models / "one.om", asynchronous=True)
    acl, ended_s = client.acl, []

    def loop(arguments):
        while not ended_s:
            acl.rt.process_report(10)

    thread, _ = acl.util.start_thread(loop, None)
    acl.rt.subscribe_report(thread, client.stream)
    began_s = time.monotonic()
    client.slots[0].submit(utterance(20))
    acl.rt.launch_callback(lambda data: ended_s.append(time.monotonic()), None, BLOCKS, client.stream)
    assert acl.util.stop_thread(thread) == 0  # nobody synchronises
    assert ended_s[0] - began_s >= 0.05


@pytest.mark.parametrize("who", ["ended", "itself"])
def test_a_callback_that_can_never_run_is_a_violation(acl, who):
    acl.init()
    acl.rt.set_device(0)
    stream, _ = acl.rt.create_stream()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    acl.rt.subscribe_report(thread.ident if who == "ended" else threading.get_ident(), stream)
    acl.rt.launch_callback(print, None, BLOCKS, stream)
    with pytest.raises(acl.ContractViolation, match="has ended" if who == "ended" else "waits for the stream"):
        acl.rt.synchronize_stream(stream)
    assert len(report().violations) == 1


# Gears of batches and images


@pytest.fixture
def gear_models(models, tmp_path):
    """Models of (batch, 6) and of (1, 1, height, width) with one convolution each."""
    row = helper.make_node("Unsqueeze", ["input"], ["channel"], axes=[1])
    graphs = {
        "batch": ([row, helper.make_node("Conv", ["channel", "kernel"], ["output"])], ["batch", 6], [3, 1, 4]),
        "image": ([helper.make_node("Conv", ["input", "kernel"], ["output"])], [1, 1, "h", "w"], [3, 1, 2, 2]),
    }
    for name, (nodes, shape, kernel_shape) in graphs.items():
        kernel = np.random.default_rng(0).standard_normal(kernel_shape).astype(np.float32)
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * len(kernel_shape))],
            [onnx.numpy_helper.from_array(kernel, "kernel")],
        )
        opset = [helper.make_opsetid("", 11)]
        onnx.save(helper.make_model(graph, ir_version=6, opset_imports=opset), tmp_path / f"{name}.onnx")
    assert compile_om(tmp_path / "batch", "--input_shape=input:-1,6", "--dynamic_batch_size=1,2,4") == 0
    image = "--input_shape=input:1,1,-1,-1", "--dynamic_image_size=4,6;8,8"
    assert compile_om(tmp_path / "image", *image) == 0
    return tmp_path


@pytest.mark.parametrize("selector_int64", [0, 1])
@pytest.mark.parametrize(("name", "shapes"), [("batch", [(4, 6), (1, 6)]), ("image", [(1, 1, 8, 8), (1, 1, 4, 6)])])
def test_batch_and_image_gears_equal_onnxruntime(start, gear_models, name, shapes, selector_int64):
    client = Client(start(SELECTOR_INT64=selector_int64), gear_models / f"{name}.om")
    mdl, slot = client.acl.mdl, client.slots[0]
    assert mdl.get_input_dynamic_gear_count(client.desc, -1) == (0, 0)
    batches, images = mdl.get_dynamic_batch(client.desc), mdl.get_dynamic_hw(client.desc, -1)
    if name == "batch":
        assert batches == ({"batchCount": 3, "batch": [1, 2, 4]}, 0)
        assert images == ({"hwCount": 0, "hw": []}, 0)
    else:
        assert batches == ({"batchCount": 0, "batch": []}, 0)
        assert images == ({"hwCount": 2, "hw": [[4, 6], [8, 8]]}, 0)
    for shape in shapes:
        values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        if name == "batch":
            slot.set_gear = lambda _, n=shape[0]: client.call(
                "mdl.set_dynamic_batch_size", client.model, slot.in_set, client.selector, n
            )
        else:
            slot.set_gear = lambda _, size=shape[2:]: client.call(
                "mdl.set_dynamic_hw_size", client.model, slot.in_set, client.selector, *size
            )
        assert np.array_equal(client.infer([values]), expected(gear_models, name, [values]))
    assert client.close() == []
    assert_clean()


def test_a_batch_or_an_image_size_has_to_be_a_gear(acl, gear_models):
    client = Client(acl, gear_models / "batch.om")
    slot = client.slots[0]
    arguments = client.model, slot.in_set, client.selector
    assert acl.mdl.set_dynamic_batch_size(*arguments, 3) == 145013
    assert acl.mdl.set_dynamic_batch_size(*arguments, 0) == 100000
    assert acl.mdl.set_dynamic_batch_size(99, *arguments[1:], 2) == 145003
    with pytest.raises(acl.ContractViolation, match="set its batch, not its image"):
        acl.mdl.set_dynamic_hw_size(*arguments, 4, 6)


@pytest.mark.parametrize(
    ("shape", "gears", "code"),
    [
        ("input:-1,6", "--dynamic_batch_size=1", "E10035"),
        ("input:-1,6", "--dynamic_batch_size=1,1", "E10039"),
        ("input:-1,6", "--dynamic_batch_size=1,0", "E10038"),
        ("input:1,6", "--dynamic_batch_size=1,2", "E10001"),
        ("input:1,-1", "--dynamic_batch_size=1,2", "E10001"),
        ("input:-1,6", "--dynamic_image_size=1,2;3,4", "E10001"),
        ("input:1,-1", "--dynamic_image_size=1,2;3,4", "E10001"),
        ("input:-1,6", "--dynamic_batch_size=", "E10058"),
        (None, "--dynamic_batch_size=1,2", "E10004"),
    ],
)
def test_atc_refuses_batches_and_images(gear_models, capsys, shape, gears, code):
    flags = [f"--input_shape={shape}"] if shape else []
    assert compile_om(gear_models / "batch", *flags, gears) == 255
    assert code in capsys.readouterr().out


# Selectors of older chips


@pytest.mark.parametrize(("name", "inputs"), [("one", 1), ("two", 2)])
def test_a_selector_of_int64(start, models, name, inputs):
    client = Client(start(SELECTOR_INT64=1), models / f"{name}.om")
    index, _ = client.acl.mdl.get_input_index_by_name(client.desc, SELECTOR)
    assert client.acl.mdl.get_input_data_type(client.desc, index) == 9
    assert client.acl.mdl.get_input_size_by_index(client.desc, index) == 8 * inputs
    values = utterance(20, inputs)
    assert np.array_equal(client.infer(values), expected(models, name, values))
    assert client.close() == []
    assert_clean()


def test_an_oversized_selector_of_two_values_selects_a_wrong_gear(start, models):
    client = Client(start(STRICT=0), models / "two.om")
    slot = client.slots[0]
    pointer, _ = client.acl.rt.malloc(16, 0)
    client.acl.update_data_buffer(slot.in_buffers[2], pointer, 16)
    with pytest.raises(client.acl.ContractViolation, match="elements of 8 bytes"):
        slot.set_gear(20)


# Descriptions of tensors, and models of open shapes


def test_descriptions_say_what_they_were_told(opened):
    desc = opened.create_tensor_desc(0, [1, 20], 2)
    assert opened.get_tensor_desc_type(desc) == 0
    assert opened.get_tensor_desc_format(desc) == 2
    assert opened.get_tensor_desc_num_dims(desc) == 2
    assert [opened.get_tensor_desc_dim_v2(desc, axis) for axis in range(3)] == [(1, 0), (20, 0), (0, 100000)]
    assert opened.get_tensor_desc_size(desc) == 80
    assert opened.get_tensor_desc_element_count(desc) == 20
    assert [opened.data_type_size(number) for number in (0, 1, 9, 27)] == [4, 2, 8, 0]
    assert opened.destroy_tensor_desc(desc) is None
    for shape in ((1, 20), [1, 20.0]):
        with pytest.raises(TypeError):
            opened.create_tensor_desc(0, shape, 2)


def test_formats_and_dims_of_inputs_and_outputs(acl, models):
    client = Client(acl, models / "two.om")
    mdl, desc = acl.mdl, client.desc
    assert mdl.get_input_dims_v2(desc, 1) == mdl.get_input_dims(desc, 1)
    assert [mdl.get_input_format(desc, index) for index in (0, 2, 9)] == [2, 2, -1]
    assert [mdl.get_output_format(desc, index) for index in (0, 9)] == [2, -1]
    assert client.close() == []


def test_a_model_of_open_shapes_takes_them_from_descriptions(start, models, tmp_path):
    assert compile_om(models / "one", "--input_shape=input:1,-1", f"--output={tmp_path / 'open'}") == 0
    acl = start()
    acl.init()
    acl.rt.set_device(0)
    (om,) = tmp_path.glob("open_linux_*.om")
    model, _ = acl.mdl.load_from_file(str(om))
    values = utterance(20)[0]
    pointer, _ = acl.rt.malloc(values.nbytes, 0)
    acl.rt.memcpy(pointer, values.nbytes, values.ctypes.data, values.nbytes, H2D)
    in_set, out_set = acl.mdl.create_dataset(), acl.mdl.create_dataset()
    buffers = acl.create_data_buffer(pointer, values.nbytes), acl.create_data_buffer(0, 0)
    for dataset, buffer in zip((in_set, out_set), buffers):
        acl.mdl.add_dataset_buffer(dataset, buffer)
    assert acl.mdl.execute(model, in_set, out_set) == 145000  # nobody has told the shape
    shape = acl.create_tensor_desc(0, list(values.shape), 2)
    assert acl.mdl.set_dataset_tensor_desc(in_set, shape, 0) == (in_set, 0)
    assert acl.mdl.set_dataset_tensor_desc(in_set, shape, 1) == (0, 100000)
    acl.destroy_tensor_desc(shape)
    assert acl.mdl.get_dataset_tensor_desc(out_set, 0) == 0
    assert acl.mdl.execute(model, in_set, out_set) == 0
    found = acl.mdl.get_dataset_tensor_desc(out_set, 0)
    axes = range(acl.get_tensor_desc_num_dims(found))
    out_shape = [acl.get_tensor_desc_dim_v2(found, axis)[0] for axis in axes]
    assert out_shape == [1, 9, 3]
    size = acl.get_data_buffer_size_v2(buffers[1])
    target = bytes(bytearray(size))
    acl.rt.memcpy(acl.util.bytes_to_ptr(target), size, acl.get_data_buffer_addr(buffers[1]), size, D2H)
    assert np.array_equal(np.frombuffer(target, np.float32).reshape(out_shape), expected(models, "one", [values]))
    pointers = [acl.get_data_buffer_addr(buffer) for buffer in buffers]
    for handle in buffers:
        assert acl.destroy_data_buffer(handle) == 0
    with pytest.raises(acl.ContractViolation, match="belongs to a dataset"):
        acl.destroy_tensor_desc(found)
    for handle in (in_set, out_set):
        assert acl.mdl.destroy_dataset(handle) == 0
    for handle in pointers:
        assert acl.rt.free(handle) == 0
    assert acl.mdl.unload(model) == 0
    assert acl.rt.reset_device(0) == 0
    assert acl.finalize() == 0
    assert (report().advice, report().leaks) == ([], [])


# Ways to load


@pytest.mark.parametrize("way", [1, 2, 3, 4])
def test_loading_by_a_configuration(opened, models, way):
    path = str(models / "fixed.om")
    content = (models / "fixed.om").read_bytes()
    work, weight, _ = opened.mdl.query_size(path)
    lent = [opened.rt.malloc(size, 0)[0] for size in (work, weight)]
    config = opened.mdl.create_config_handle()
    source = {2: path} if way in (1, 2) else {3: opened.util.bytes_to_ptr(content), 4: len(content)}
    memory = {5: lent[1], 6: weight, 7: lent[0], 8: work} if way in (2, 4) else {}
    for setting, value in {1: way, **source, **memory, 13: 1}.items():
        assert opened.mdl.set_config_opt(config, setting, value) == 0
    model, code = opened.mdl.load_with_config(config)
    assert code == 0
    assert opened.mdl.destroy_config_handle(config) == 0
    assert opened.mdl.unload(model) == 0
    assert [opened.rt.free(pointer) for pointer in lent] == [0, 0]


def test_a_configuration_that_does_not_suffice(opened, models):
    config = opened.mdl.create_config_handle()
    assert opened.mdl.load_with_config(config) == (0, 100000)
    assert opened.mdl.set_config_opt(config, 1, 1) == 0
    assert opened.mdl.load_with_config(config) == (0, 145002)
    assert opened.mdl.set_config_opt(config, 999, 1) == 207000
    for setting, value in ((2, 7), (1, "x")):
        with pytest.raises(TypeError):
            opened.mdl.set_config_opt(config, setting, value)
    assert opened.mdl.destroy_config_handle(config) == 0


def test_an_om2_is_loaded_like_an_om(start, models, tmp_path):
    flags = "--input_shape=input:1,-1", "--dynamic_dims=10;20;40", "--mode=7", f"--output={tmp_path / 'new'}"
    assert compile_om(models / "one", *flags) == 0
    client = Client(start(), tmp_path / "new.om2")
    values = utterance(20)
    assert np.array_equal(client.infer(values), expected(models, "one", values))
    assert client.close() == []
    assert_clean()


# What other clients do and the suite does not


def test_ordinary_memory_is_copied_before_a_queued_copy_returns(start, models):
    client = Client(start(STRICT=0), models / "one.om", asynchronous=True)
    acl, slot, values = client.acl, client.slots[0], utterance(20)
    slot.set_gear(20)
    content = values[0].tobytes()
    pointer = acl.util.bytes_to_ptr(content)
    assert acl.rt.memcpy_async(slot.inputs[0], 80, pointer, 80, H2D, client.stream) == 0
    slot.execute()
    result = bytes(bytearray(9 * 3 * 4))
    pointer = acl.util.bytes_to_ptr(result)
    assert acl.rt.memcpy_async(pointer, len(result), slot.outputs[0], len(result), D2H, client.stream) == 0
    assert np.array_equal(np.frombuffer(result, np.float32).reshape(1, 9, 3), expected(models, "one", values))
    assert client.close() == []
    assert {entry["text"] for entry in report().advice} == {"asynchronous copies need host memory from malloc_host"}
    assert (report().violations, report().leaks) == ([], [])


def test_the_release_order_of_public_samples(start, models):
    """The model and its description first; then the memory of each buffer before the buffer; the dataset last."""
    client = Client(start(STRICT=0), models / "one.om")
    acl, slot, values = client.acl, client.slots[0], utterance(20)
    assert np.array_equal(client.infer(values), expected(models, "one", values))
    assert acl.mdl.unload(client.model) == 0
    assert acl.mdl.destroy_desc(client.desc) == 0
    for dataset in (slot.in_set, slot.out_set):
        for index in range(acl.mdl.get_dataset_num_buffers(dataset)):
            buffer = acl.mdl.get_dataset_buffer(dataset, index)
            assert acl.rt.free(acl.get_data_buffer_addr(buffer)) == 0
            assert acl.destroy_data_buffer(buffer) == 0
        assert acl.mdl.destroy_dataset(dataset) == 0
    for pointer in (*slot.host_inputs, slot.host_output):
        assert acl.rt.free_host(pointer) == 0
    assert acl.rt.destroy_stream(client.stream) == 0
    assert acl.rt.destroy_context(acl.rt.get_context()[0]) == 0
    assert acl.rt.reset_device(0) == 0
    assert acl.finalize() == 0
    assert (report().violations, report().leaks) == ([], [])
    assert {entry["call"] for entry in report().advice} == {"acl.mdl.unload", "acl.rt.free"}


def test_a_description_destroyed_before_its_model_is_unloaded(start, models):
    client = Client(start(STRICT=0), models / "one.om")
    assert client.acl.mdl.destroy_desc(client.desc) == 0
    assert client.acl.mdl.unload(client.model) == 0
    with pytest.raises(CallFailed, match="145003"):
        client.call("mdl.unload", client.model)
