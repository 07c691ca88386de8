# SPDX-License-Identifier: Apache-2.0
"""A client that keeps the contract gets onnxruntime's results to the bit, and is accused of nothing."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from .client import D2H, H2D, SELECTOR, Client, assert_clean, expected, utterance


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
    # The first event has happened too, but the contract requires the host to wait for both.
    assert acl.rt.synchronize_event(events[1]) == 0
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
