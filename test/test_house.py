# SPDX-License-Identifier: Apache-2.0
"""Proves the house rules: who may import whom, and what an old Python with numpy and tqdm alone can run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from conftest import BARE_ENVIRONMENT, ROOT, at_startup

PACKAGE = "wav2vec2_eval"
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
COMMANDS = {"gears", "evaluate"}  # modules that are started by python -m, and may import everything

# Wing or module -> what it may import besides itself: wings and modules, "!" before those that are left out. The
# docstring of the package says the same.
RULES = {
    "errors": "",
    "machine": "",
    "speech": "errors",
    "files": "errors machine speech",
    "sources": "errors machine speech files.names files.text",
    "engines": "errors machine speech files !files.manifest",
    "export": "errors machine speech files sources engines",
    "cli": "errors machine speech sources.splits",
    "report": "errors machine speech files sources cli",
}
# Third-party package -> the wings and modules that may import it.
OWNERS = {
    "onnxruntime": "engines.onnxruntime_cpu",
    "openvino": "engines.openvino_cpu engines.openvino_model engines.narrow_groups",
    "acl": "engines.npu.acl_runtime",
    "jinja2": "report.page",
    "matplotlib": "report.pictures",
    "torch": "engines.pytorch sources.pytorch_model export",
}
OLD_PYTHON = ("machine", "speech", "files", "engines", "errors", "cli")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / PACKAGE).rglob("*.py")}


def imports(path: Path) -> Iterator[str]:
    """The full name of every module that a file imports, inside functions too."""
    folder = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{each.name}" if f"{base}.{each.name}" in MODULES else base for each in node.names)


def is_in(name: str, places: str) -> bool:
    """Whether a module of the package is one of `places`, or inside one."""
    return any(f"{name}.".startswith(f"{PACKAGE}.{place}.") for place in places.split())


GRAPH = {name: {each for each in imports(path) if each in MODULES} - {name} for name, path in MODULES.items()}
WINGS = [(name, wing) for name in sorted(MODULES) for wing in RULES if is_in(name, wing)]


def test_every_module_has_a_rule():
    without_rule = set(MODULES) - {name for name, _ in WINGS}
    assert without_rule == {PACKAGE, *(f"{PACKAGE}.{name}" for name in COMMANDS)}


@pytest.mark.parametrize(("name", "wing"), WINGS)
def test_a_wing_imports_what_its_rule_allows(name, wing):
    allowed = [place for place in RULES[wing].split() if not place.startswith("!")]
    left_out = " ".join(place[1:] for place in RULES[wing].split() if place.startswith("!"))
    for target in GRAPH[name] - {PACKAGE}:
        assert is_in(target, " ".join([wing, *allowed])) and not is_in(target, left_out), f"{name} imports {target}"


def test_no_module_imports_itself_through_others():
    list(TopologicalSorter(GRAPH).static_order())  # raises CycleError, which names the circle


def test_nobody_imports_a_script():
    for path in [*MODULES.values(), *(ROOT / "test").rglob("*.py")]:
        if ".venv" not in path.parts:
            assert not SCRIPTS & {name.partition(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("package", OWNERS)
def test_a_heavy_package_is_imported_by_its_owners_alone(package):
    users = {name for name, path in MODULES.items() if package in {each.partition(".")[0] for each in imports(path)}}
    assert users and all(is_in(name, OWNERS[package]) for name in users), users


@pytest.mark.parametrize("name", [name for name in sorted(MODULES) if is_in(name, " ".join(OLD_PYTHON))])
def test_the_syntax_is_python_39(name):
    ast.parse(MODULES[name].read_text(encoding="utf-8"), feature_version=(3, 9))


def test_the_syntax_of_pyacl_infer_is_python_39():
    ast.parse((ROOT / "pyacl_infer.py").read_text(encoding="utf-8"), feature_version=(3, 9))


def run_without_packages(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python where no third-party package but numpy and tqdm can be imported."""
    blocked = ",".join(packages_distributions().keys() - {"numpy", "tqdm"})
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**BARE_ENVIRONMENT, **at_startup(folder, "without_packages.py", BLOCKED=blocked)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_numpy_and_tqdm_are_enough_for_an_ascend_host(tmp_path):
    """As on a Python 3.9 that has no other package; there, the same check runs by hand."""
    done = run_without_packages(tmp_path, str(ROOT / "test/check_python39.py"))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.endswith("all good\n")


def test_other_packages_are_really_blocked(tmp_path):
    """Otherwise test_numpy_and_tqdm_are_enough_for_an_ascend_host would prove nothing."""
    done = run_without_packages(tmp_path, "-c", "import onnxruntime")
    assert "ModuleNotFoundError: onnxruntime is blocked by the test" in done.stderr
