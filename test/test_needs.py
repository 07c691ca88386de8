# SPDX-License-Identifier: Apache-2.0
"""Proves that a Python that is too old, and a package that is missing, end every program in one line that helps."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from wav2vec2_eval.machine import needs
from wav2vec2_eval.machine.start import SCRIPTS

from conftest import BARE_ENVIRONMENT, ROOT, at_startup

PROGRAMS = {
    **{script: [str(ROOT / script)] for script in SCRIPTS},
    "report.py": ["-m", "wav2vec2_eval.report"],
    "gears.py": ["-m", "wav2vec2_eval.gears"],
}
# What an old Python reads before its version is checked.
READ_FIRST = ("__init__", "machine/__init__", "machine/needs", "machine/reporting", "machine/start")

ALONE = "of the scripts, pyacl_infer.py alone runs from 3.9 on, for .om models; "
NPU = "the Python package 'numpy' is missing; pip install -r requirements-npu.txt"


def run(python: str, program: str, **variables: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a program of the suite without options."""
    done = subprocess.run(
        [python, *PROGRAMS[program]],
        cwd=ROOT,
        env={**BARE_ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def expected(program: str, version: str) -> str:
    """The line of a program on a Python that lacks every package."""
    found = numbers(version)
    if program not in needs.ON_OLD_PYTHON and found < (3, 11):
        return f"{program}: error: expected Python 3.11 or newer, found {version}; {ALONE}see docs/ascend.md\n"
    if found < (3, 9):
        return f"{program}: error: expected Python 3.9 or newer, found {version}; see docs/ascend.md\n"
    return f"{program}: error: {NPU}\n"


@pytest.mark.parametrize("version", ["3.7.5", "3.8.10", "3.9.18", "3.10.12"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_an_old_python_is_one_line(tmp_path, program, version):
    """This Python says that it is of the version. (It reads all syntax, which other tests are about.)"""
    found = run(
        sys.executable, program, **at_startup(tmp_path, "without_packages.py", BLOCKED="numpy", VERSION=version)
    )
    assert found == (2, "", expected(program, version))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ModuleNotFoundError("No module named 'wav2vec2_eval.speech.x'", name="wav2vec2_eval.speech.x"),
            "is not complete",
        ),
        (
            ImportError("cannot import name 'a' from 'wav2vec2_eval.b'", name="wav2vec2_eval.b"),
            "copy wav2vec2_eval/ again",
        ),
        (ModuleNotFoundError("No module named '_ctypes'", name="_ctypes"), "built without its module '_ctypes'"),
        (ModuleNotFoundError("No module named 'zlib'", name="zlib"), "built without its module 'zlib'"),
        (ModuleNotFoundError("No module named 'numpy'", name="numpy"), "the Python package 'numpy' is missing"),
    ],
)
@pytest.mark.parametrize("program", ["pyacl_infer.py", "preprocess.py"])
def test_what_is_lacking_is_named(error, message, program):
    said = needs.lacking(error, program)
    assert message in said
    assert ("requirements" in said) == ("package" in message)


def old_pythons() -> dict[str, str]:
    """Version -> path of the Pythons on PATH that are older than 3.11 and can run."""
    found: dict[str, str] = {}
    for minor in range(7, 11):
        for folder in os.get_exec_path():
            path = Path(folder) / f"python3.{minor}"
            command = [str(path), "-I", "-c", "import sys, platform; print(sys.executable, platform.python_version())"]
            if path.is_file():
                said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
                if said.returncode == 0:  # not a shim of pyenv for a version that is switched off
                    executable, version = said.stdout.split()
                    found.setdefault(version, executable)
    return found


def test_old_pythons_of_this_host_end_in_one_line():
    """In a bare environment of each, where they find neither numpy nor the packages of this Python."""
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no Python 3.7 to 3.10 on PATH")
    for version, python in pythons.items():
        for program in PROGRAMS:
            status, stdout, stderr = run(python, program, PYTHONPATH="", PYTHONNOUSERSITE="1")
            if program not in needs.ON_OLD_PYTHON or numbers(version) < (3, 9):
                assert (status, stdout, stderr) == (2, "", expected(program, version))
            else:  # numpy may be there; then the options are missing
                assert (status, stdout) == (2, "") and re.fullmatch(f"{program}: error: .*\n", stderr), stderr


@pytest.mark.parametrize("path", [*(f"wav2vec2_eval/{name}.py" for name in READ_FIRST), *SCRIPTS])
def test_what_is_read_before_the_check_is_python_37(path):
    ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_newer_syntax_is_seen():
    """Otherwise test_what_is_read_before_the_check_is_python_37 would prove nothing."""
    with pytest.raises(SyntaxError):
        ast.parse("if name := None: pass", feature_version=(3, 7))


def test_nothing_else_of_the_package_is_read_before_the_check(tmp_path):
    program = (
        "import sys; from wav2vec2_eval.machine.start import prepare; prepare('gears.py'); "
        "print(*sorted(name for name in sys.modules if name.startswith('wav2vec2')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**BARE_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name.replace("/", ".").replace("__init__", "") for name in READ_FIRST]
    assert done.stdout.split() == sorted(f"wav2vec2_eval.{name}".rstrip(".") for name in names)


@pytest.mark.parametrize(
    ("version", "program", "package", "remedy"),
    [
        ((3, 9, 2), "pyacl_infer.py", "numpy", "pip install -r requirements-npu.txt"),
        ((3, 9, 2), "pyacl_infer.py", "tqdm", "pip install -r requirements-npu.txt"),
        ((3, 9, 2), "pyacl_infer.py", "tqdm.auto", "pip install -r requirements-npu.txt"),
        ((3, 10, 1), "pyacl_infer.py", "onnx", "requirements.txt has it, for Python 3.11 or newer; found 3.10.1"),
        ((3, 11, 0), "pyacl_infer.py", "onnx", "pip install -r requirements.txt"),
        (
            (3, 13, 0),
            "pyacl_infer.py",
            "numpy",
            "pip install -r requirements.txt (requirements-npu.txt is enough for .om models)",
        ),
        ((3, 11, 0), "preprocess.py", "numpy", "pip install -r requirements.txt"),
        ((3, 11, 0), "script.py", "", "pip install -r requirements.txt"),
    ],
)
def test_a_missing_package(monkeypatch, version, program, package, remedy):
    monkeypatch.setattr(needs, "sys", SimpleNamespace(version_info=(*version, "final", 0)))
    name = package.partition(".")[0]
    message = needs.lacking(ModuleNotFoundError("No module", name=package), program)
    assert message == f"the Python package {name!r} is missing; {remedy}"


@pytest.mark.parametrize(
    ("version", "requirements"), [((3, 9, 2), "requirements-npu.txt"), ((3, 11, 0), "requirements.txt")]
)
def test_a_package_that_cannot_be_loaded(monkeypatch, version, requirements):
    monkeypatch.setattr(needs, "sys", SimpleNamespace(version_info=version))
    message = needs.lacking(ImportError("libx.so: cannot open"), "pyacl_infer.py")
    assert message == f"a Python package cannot be loaded (libx.so: cannot open); install {requirements} again"


def test_a_package_that_breaks_while_modules_load_is_one_line(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('libx.so:\\n cannot open')")
    message = "pyacl_infer.py: error: a Python package cannot be loaded (libx.so: cannot open); "
    found = run(sys.executable, "pyacl_infer.py", PYTHONPATH=str(tmp_path))
    assert found == (2, "", f"{message}install requirements.txt again\n")


def test_another_error_while_modules_load_keeps_its_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ValueError('of numpy')")
    status, _, stderr = run(sys.executable, "pyacl_infer.py", PYTHONPATH=str(tmp_path))
    assert status == 1 and stderr.startswith("Traceback") and stderr.endswith("ValueError: of numpy\n")


# The requirements files


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def test_the_npus_requirements_are_its_packages():
    assert {re.split(r"[<=]", line)[0] for line in lines("requirements-npu.txt")} == set(needs.NPU_PACKAGES)


def test_pins_of_the_npus_requirements_are_those_of_the_suite():
    pins = {line.partition(";")[0] for line in lines("requirements-npu.txt") if "==" in line.partition(";")[0]}
    assert pins and pins <= set(lines("requirements.txt"))
