# SPDX-License-Identifier: Apache-2.0
"""Proves, on a small fake acl module, that Acl checks every return code and releases everything in reverse order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from wav2vec2_eval.engines.npu.acl_codes import MEANINGS, REPEATED_INIT
from wav2vec2_eval.engines.npu.acl_runtime import Acl, AclError
from wav2vec2_eval.errors import SuiteError

FAILED = 507011  # the model failed to execute


class FakeCann:
    """An `acl` module. `calls` lists every call; `answers` replaces what a function returns, by its full name."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        self.message: str | None = None  # CANN's own text, which reading clears
        self.acl = SimpleNamespace(
            init=self.function("acl.init", 0),
            finalize=self.function("acl.finalize", 0),
            get_soc_name=self.function("acl.get_soc_name", "Ascend310P3"),
            get_recent_err_msg=self.take_message,
            create_data_buffer=self.function("acl.create_data_buffer", 31),
            destroy_data_buffer=self.function("acl.destroy_data_buffer", 0),
            rt=SimpleNamespace(
                set_device=self.function("acl.rt.set_device", 0),
                reset_device=self.function("acl.rt.reset_device", 0),
                create_context=self.function("acl.rt.create_context", (7, 0)),
                destroy_context=self.function("acl.rt.destroy_context", 0),
                malloc=self.function("acl.rt.malloc", (4096, 0)),
                free=self.function("acl.rt.free", 0),
                synchronize_stream=self.function("acl.rt.synchronize_stream", 0),
            ),
            mdl=SimpleNamespace(
                load_from_file=self.function("acl.mdl.load_from_file", (1, 0)),
                unload=self.function("acl.mdl.unload", 0),
                execute=self.function("acl.mdl.execute", 0),
            ),
        )

    def function(self, name: str, answer: Any) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return self.answers.get(name, answer)

        return called

    def take_message(self) -> str | None:
        message, self.message = self.message, None
        return message


@pytest.fixture
def cann(monkeypatch):
    fake = FakeCann()
    monkeypatch.setitem(sys.modules, "acl", fake.acl)
    return fake


def test_without_the_module_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "acl", None)
    with pytest.raises(SuiteError, match=r"acl cannot be imported .*; \.om models need .*: source its set_env\.sh"):
        Acl()


def test_calls_go_to_the_documented_functions(cann):
    acl = Acl()
    assert acl.get("acl.get_soc_name") == "Ascend310P3"
    assert acl.call("acl.mdl.execute", 1, 2, 3) is None
    assert cann.calls == [("acl.get_soc_name",), ("acl.mdl.execute", 1, 2, 3)]


@pytest.mark.parametrize(("answer", "value"), [(0, None), ((5, 0), 5), (({"dims": [1]}, 0), {"dims": [1]})])
def test_a_call_returns_the_value_without_its_code(cann, answer, value):
    cann.answers["acl.mdl.execute"] = answer
    assert Acl().call("acl.mdl.execute") == value


@pytest.mark.parametrize("answer", [FAILED, (None, FAILED), ({}, FAILED)])
def test_an_error_has_the_call_the_code_its_meaning_and_the_message_of_cann(cann, answer):
    cann.answers["acl.mdl.execute"] = answer
    cann.message = "EZ9999: inner error"
    with pytest.raises(AclError) as failure:
        Acl().call("acl.mdl.execute")
    expected = (
        f"acl.mdl.execute failed with code {FAILED} ({MEANINGS[FAILED]}): EZ9999: inner error; see docs/ascend.md"
    )
    assert str(failure.value) == expected


def test_an_error_without_meaning_or_message(cann):
    cann.answers["acl.mdl.execute"] = 999_999
    with pytest.raises(AclError) as failure:
        Acl().call("acl.mdl.execute")
    assert str(failure.value) == "acl.mdl.execute failed with code 999999; see docs/ascend.md"


def test_the_message_of_cann_is_left_alone_while_calls_succeed(cann):
    """Reading the message clears it, so a success must not read it."""
    cann.message = "of a later failure"
    Acl().call("acl.mdl.execute")
    assert cann.message == "of a later failure"


def test_both_kinds_of_creators(cann):
    """One returns (handle, code), the other a handle that is 0 on failure."""
    acl = Acl()
    assert acl.own("acl.rt.malloc", 64, 0, release="acl.rt.free") == 4096
    assert acl.own("acl.create_data_buffer", 4096, 64, release="acl.destroy_data_buffer") == 31
    assert acl.release_all() == []
    assert cann.calls == [
        ("acl.rt.malloc", 64, 0),
        ("acl.create_data_buffer", 4096, 64),
        ("acl.destroy_data_buffer", 31),
        ("acl.rt.free", 4096),
    ]


def test_a_handle_of_zero_is_a_resource_if_a_code_says_success(cann):
    cann.answers["acl.rt.create_context"] = (0, 0)
    acl = Acl()
    assert acl.own("acl.rt.create_context", 0, release="acl.rt.destroy_context") == 0
    assert acl.release_all() == []
    assert cann.calls[-1] == ("acl.rt.destroy_context", 0)


@pytest.mark.parametrize(
    ("create", "answer", "said"),
    [
        ("acl.rt.malloc", (0, 207001), "failed with code 207001 (device memory could not be allocated)"),
        ("acl.rt.malloc", (4096, 207001), "failed with code 207001"),
        ("acl.create_data_buffer", 0, "gave no handle"),
    ],
)
def test_a_resource_that_was_not_created_is_not_released(cann, create, answer, said):
    cann.answers[create] = answer
    acl = Acl()
    with pytest.raises(AclError) as failure:
        acl.own(create, release="acl.rt.free")
    assert f"{create} {said}" in str(failure.value)
    assert acl.release_all() == []
    assert cann.calls == [(create,)]


def test_the_device_is_released_in_reverse_order(cann):
    acl = Acl()
    acl.open_device(3)
    acl.own("acl.mdl.load_from_file", "model.om", release="acl.mdl.unload")
    acl.before_release("acl.rt.synchronize_stream", 5)
    assert acl.release_all() == []
    assert acl.release_all() == [], "nothing is released twice"
    assert cann.calls == [
        ("acl.init",),
        ("acl.rt.set_device", 3),
        ("acl.rt.create_context", 3),
        ("acl.mdl.load_from_file", "model.om"),
        ("acl.rt.synchronize_stream", 5),
        ("acl.mdl.unload", 1),
        ("acl.rt.destroy_context", 7),
        ("acl.rt.reset_device", 3),
        ("acl.finalize",),
    ]


@pytest.mark.parametrize("failing", ["acl.init", "acl.rt.set_device", "acl.rt.create_context"])
def test_a_device_that_does_not_open_is_released_as_far_as_it_was_opened(cann, failing):
    cann.answers[failing] = FAILED if failing != "acl.rt.create_context" else (0, FAILED)
    acl = Acl()
    with pytest.raises(AclError, match=failing):
        acl.open_device(0)
    assert acl.release_all() == []
    called = [name for name, *_ in cann.calls]
    assert ("acl.finalize" in called) == (failing != "acl.init")
    assert ("acl.rt.reset_device" in called) == (failing == "acl.rt.create_context")
    assert "acl.rt.destroy_context" not in called


def test_the_release_goes_on_after_a_failure(cann):
    cann.answers |= {"acl.rt.destroy_context": 107002, "acl.finalize": FAILED}
    acl = Acl()
    acl.open_device(0)
    failures = acl.release_all()
    assert [str(failure).partition(" failed")[0] for failure in failures] == ["acl.rt.destroy_context", "acl.finalize"]
    assert [name for name, *_ in cann.calls][-3:] == ["acl.rt.destroy_context", "acl.rt.reset_device", "acl.finalize"]


@pytest.mark.parametrize("counts_users", [True, False])
def test_acl_that_another_part_of_the_process_initialised_is_not_finalised(cann, counts_users):
    """Newer versions of CANN count their users, and take this user off the count."""
    cann.answers["acl.init"] = REPEATED_INIT
    if counts_users:
        cann.acl.finalize_reference = cann.function("acl.finalize_reference", (1, 0))
    acl = Acl()
    acl.open_device(0)
    assert acl.release_all() == []
    called = [name for name, *_ in cann.calls]
    assert "acl.finalize" not in called
    assert ("acl.finalize_reference" in called) == counts_users


@pytest.mark.parametrize("interrupted", ["acl.rt.malloc", "acl.rt.free"])
def test_a_signal_waits_until_the_resource_has_an_owner_and_until_all_is_released(cann, monkeypatch, interrupted):
    name = interrupted.rpartition(".")[2]
    function = getattr(cann.acl.rt, name)

    def interrupt(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return function(*arguments)

    monkeypatch.setattr(cann.acl.rt, name, interrupt)
    acl = Acl()
    try:
        with pytest.raises(KeyboardInterrupt):
            acl.own("acl.rt.malloc", 64, 0, release="acl.rt.free")
            acl.own("acl.rt.malloc", 64, 0, release="acl.rt.free")
            acl.release_all()
    finally:
        acl.release_all()
    called = [name for name, *_ in cann.calls]
    assert called.count("acl.rt.malloc") == called.count("acl.rt.free") == (1 if name == "malloc" else 2)
