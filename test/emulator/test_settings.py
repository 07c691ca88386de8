# SPDX-License-Identifier: Apache-2.0
"""The ACL_EMULATOR_ variables inject failures into a correct client and simulate the time of a device."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from .client import CallbackClient, CallFailed, Client, assert_clean, expected, report, utterance

# Injected failures


def run_once(acl: ModuleType, om: Path, kind: str) -> np.ndarray:
    """A careful program: it makes one inference, releases everything, and raises the first error."""
    client = CallbackClient(acl, om) if kind == "callbacks" else Client(acl, om, asynchronous=kind == "async")
    try:
        return client.infer(utterance(20))
    finally:
        failed = client.close()
        if failed and sys.exc_info()[0] is None:
            raise CallFailed("; ".join(failed))


@pytest.mark.parametrize("kind", ["sync", "async", "callbacks"])
def test_every_call_can_fail(start, models, kind):
    found = run_once(start(), models / "one.om", kind)
    assert np.array_equal(found, expected(models, "one", utterance(20)))
    assert_clean()
    total = len(report().failable_calls)
    names = set()
    for number in range(1, total + 1):
        acl = start(FAIL_CALL=number, FAIL_CODE=507899)
        with pytest.raises(CallFailed) as caught:
            run_once(acl, models / "one.om", kind)
        assert report().injected in str(caught.value)
        names.add(report().injected)
        assert_clean()
    assert {"acl.init", "acl.mdl.load_from_file", "acl.rt.free", "acl.finalize"} <= names
    own = {"acl.rt.subscribe_report", "acl.rt.launch_callback", "acl.rt.process_report", "acl.rt.unsubscribe_report"}
    assert (own <= names) == (kind == "callbacks")


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
    assert acl.rt.synchronize_stream(client.stream) == 0  # a failure is reported once
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


def count_while(action: Callable[[], object]) -> int:
    """How often another Python thread runs during the action."""
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
