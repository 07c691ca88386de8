# SPDX-License-Identifier: Apache-2.0
"""acl answers a client's error with the documented code or TypeError, and offers the documented functions only."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from .client import H2D, assert_clean, report, utterance

# Return codes


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


def host_to_host(client):
    slot = client.slots[0]
    return slot.host_output, 4, slot.host_inputs[0], 4, 0


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
    assert acl.rt.get_run_mode() == (1, 0)
    assert acl.rt.get_device() == (0, 107002)
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
    assert acl.mdl.load_from_file(str(models / "one.om")) == (0, 500002)
    text = acl.get_recent_err_msg().splitlines()[0]
    assert "supported socVersion=Ascend910B3" in text and "model socVersion=Ascend310P3" in text


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


# Arguments and names


@pytest.mark.parametrize("bad", [np.int64(64), 64.0, None, "64"])
def test_pointers_and_sizes_are_plain_ints(client, bad):
    with pytest.raises(TypeError, match=r"acl\.rt\.malloc args parse failed"):
        client.acl.rt.malloc(bad, 0)


def test_the_checks_of_a_gear_come_in_the_documented_order(client):
    """The form of the dims, then the gear, then the room for the selector."""
    client.acl.update_data_buffer(client.slots[0].in_buffers[1], client.slots[0].inputs[1], 2)
    assert set_dims(client, dims=[2, 21]) == 145012
    assert set_dims(client, dims=[1, 21]) == 145013
    assert set_dims(client, dims=[1, 20]) == 145012


def test_other_argument_rules(client):
    acl, slot = client.acl, client.slots[0]
    assert acl.rt.set_device(np.int32(0)) == 0  # a device id may be anything with __index__
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
    for value in (bytearray(4), memoryview(b"1234"), np.zeros(4)):
        with pytest.raises(ValueError):
            acl.util.bytes_to_ptr(value)
    assert acl.mdl.get_dataset_buffer(slot.in_set, -1) == 0  # -1 becomes a very large unsigned index


def test_only_functions_are_public(acl):
    for module in (acl, acl.rt, acl.mdl, acl.util):
        public = {name for name in vars(module) if not name.startswith("_")}
        others = {name for name in public if not inspect.isfunction(getattr(module, name))}
        assert others <= {"rt", "mdl", "util", "ContractViolation"}
