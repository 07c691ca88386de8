#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that Python 3.9 with numpy and tqdm alone runs pyacl_infer.py on an Ascend host.

    python3.9 test/check_python39.py

Imports every module of machine, speech, files and engines. Then pyacl_infer.py infers three utterances on the emulated
NPU, which computes nothing here: every result is zeros. The exit status is 1 if anything fails.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
EMULATOR = ROOT / "test/emulator/python/site-packages"
sys.path[:0] = [str(ROOT), str(EMULATOR)]

WINGS = ("machine", "speech", "files", "engines")
HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "jiwer", "soundfile", "datasets")
LENGTHS = (10_000, 20_000, 10_000)  # of the utterances, in samples
GEARS = (10_000, 20_000)
SYMBOLS = 8


def frame_count(length: int) -> int:
    from wav2vec2_eval.speech.audio import frame_count

    return frame_count(length)


def import_wings() -> int:
    """Import every module that an Ascend host needs; returns how many there are."""
    names = [f"wav2vec2_eval.{name}" for name in ("errors", "cli")]
    for wing in WINGS:
        package = importlib.import_module(f"wav2vec2_eval.{wing}")
        names += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in names:
        importlib.import_module(name)
    loaded = [name for name in HEAVY if name in sys.modules]
    if loaded:
        sys.exit(f"expected the wings to import numpy and tqdm alone, found {', '.join(loaded)}")
    return len(names)


def write_model(path: Path) -> None:
    """A model for the emulator, as its atc writes it, but without a graph."""
    from cann_emulator.om import Gear, Om, Tensor, to_bytes

    om = Om(
        soc="Ascend310P3",
        command="",
        inputs=(Tensor("input", "float32", "float32", (1, -1)),),
        outputs=(Tensor("output", "float32", "float32"),),
        shape_order=("input",),
        gears=tuple(Gear((length,), ((1, frame_count(length), SYMBOLS),)) for length in GEARS),
        graph=b"",
    )
    path.write_bytes(to_bytes(om))


def write_inputs(folder: Path) -> None:
    """Utterances with their manifest."""
    lines = []
    for key, length in enumerate(LENGTHS):
        np.ones((1, length), np.float32).tofile(folder / f"{key}.bin")
        lines.append(f"{key} ./{key}.bin (1,{length})\n")
    (folder / "bin_file.info").write_text("".join(lines), encoding="utf-8")


def environment() -> dict[str, str]:
    """The environment of a host with the emulator, which computes nothing."""
    modules = os.pathsep.join(filter(None, (str(EMULATOR), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": modules, "ACL_EMULATOR_DEVICE_MS": "1", "ACL_EMULATOR_STRICT": "1"}


def infer(folder: Path, *options: str) -> None:
    """Run pyacl_infer.py on the emulator, and check its results."""
    results = folder / "results"
    command = [
        sys.executable,
        str(ROOT / "pyacl_infer.py"),
        f"--model_path={folder / 'model.om'}",
        f"--input_info_file_path={folder / 'bin_file.info'}",
        f"--infer_res_save_path={results}",
        *options,
    ]
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    for key, length in enumerate(LENGTHS):
        found = np.fromfile(results / f"{key}.0.bin", np.float32)
        if found.size != frame_count(length) * SYMBOLS or found.any():
            sys.exit(f"{key}.0.bin: expected {frame_count(length)} frames of zeros, found {found.size} numbers")
    if not (results / "infer_time.txt").exists():
        sys.exit("pyacl_infer.py wrote no infer_time.txt")


def check_device(folder: Path) -> None:
    """Run pyacl_infer.py --check_device on the emulator."""
    command = [sys.executable, str(ROOT / "pyacl_infer.py"), f"--model_path={folder / 'model.om'}", "--check_device"]
    done = subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    if "\nthe device works: " not in done.stdout:
        sys.exit(f"expected a device that works, found: {done.stdout}")


def main() -> int:
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}")
    print(f"{import_wings()} modules imported")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model.om")
        write_inputs(folder)
        check_device(folder)
        print("pyacl_infer.py --check_device: the device works")
        for options in (("--sync_infer=True",), ("--sync_infer=False",), ("--sync_infer=False", "--cpu_run=False")):
            infer(folder, *options)
            print(f"pyacl_infer.py {' '.join(options)}: {len(LENGTHS)} utterances inferred")
    print("all good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
