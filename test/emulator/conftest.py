# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the emulator's tests. Most tests load a fresh copy of the emulated ``acl`` into their own process."""

from __future__ import annotations

import atexit
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from .client import EMULATOR, GEARS, PACKAGES, Client, compile_om, conv_graph, forget_modules, report


@pytest.fixture(scope="package", autouse=True)
def installed() -> Iterator[None]:
    """What set_env.sh does, for this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGES)
        patch.setenv("ASCEND_OPP_PATH", str(EMULATOR / "opp"))
        yield
    forget_modules()


@pytest.fixture(scope="package")
def models(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ONNX graphs and of the om files that atc makes of them; not to be changed."""
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


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """start(DEVICE_MS=10) -> a fresh acl module that read this ACL_EMULATOR_ variable."""
    hooks = []

    def fresh(**environment: object) -> ModuleType:
        for name, value in environment.items():
            monkeypatch.setenv(f"ACL_EMULATOR_{name}", str(value))
        forget_modules()
        acl = importlib.import_module("acl")
        hooks.append(report()._end)
        return acl

    yield fresh
    for hook in hooks:  # or the tests themselves would end with the status of a broken client
        atexit.unregister(hook)
    forget_modules()


@pytest.fixture
def acl(start: Callable[..., ModuleType]) -> ModuleType:
    return start()


@pytest.fixture
def client(acl: ModuleType, models: Path) -> Client:
    """A synchronous client that has opened the model of one input."""
    return Client(acl, models / "one.om")
