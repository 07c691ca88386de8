# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share. Importing this module puts the suite on the path, so it must come before the suite.

ruff keeps it there: it sorts `common` among the third-party modules, which come before wav2vec2_eval.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
SUITE_VARIABLE = "BENCH_SUITE"  # of the environment: a checkout whose code runs instead of this one's
sys.path.insert(0, os.environ.get(SUITE_VARIABLE, str(ROOT)))

from wav2vec2_eval.cli import ArgumentParser  # noqa: E402  # the path comes first
from wav2vec2_eval.machine.cpu import cpu_features, cpu_name, default_threads  # noqa: E402
from wav2vec2_eval.speech.audio import SAMPLE_RATE  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEMO = ROOT / "test/demo"
DEMO_MODEL = DEMO / "model"
# In samples, of all utterances of LibriSpeech test-clean.
LENGTHS = [int(line) for line in (Path(__file__).parent / "test_clean_lengths.txt").read_text().split()]
# The instruction sets that decide the speed of an x86 processor here.
FAST_FEATURES = {"avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}


def new_parser(description: str | None) -> ArgumentParser:
    """A parser with `--work_dir`, which every benchmark has."""
    parser = ArgumentParser(description)
    parser.add_argument(
        "--work_dir",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="models, data and results are written here, and kept",
    )
    return parser


def script_command(name: str, *options: object) -> list[str]:
    """The command that runs a script of the suite as a user does."""
    return [sys.executable, str(ROOT / name), *map(str, options)]


def conditions(*packages: str) -> list[str]:
    """The host and the versions of Python and `packages`: two lines to print before the figures."""
    features = fast_features()
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        f"{cpu_name()} ({features}), {default_threads()} cores, load {os.getloadavg()[0]:.1f} at the start",
        f"Python {platform.python_version()}, {versions}",
    ]


def fast_features() -> str:
    """Those of this processor's instruction sets that decide its speed."""
    return " ".join(sorted(FAST_FEATURES & cpu_features())) or "without AVX-512 and AMX"


def hours(lengths: list[int]) -> float:
    """The duration of utterances of these lengths in samples."""
    return sum(lengths) / SAMPLE_RATE / 3600


def verdict(reached: bool) -> str:
    """What is printed after a figure and its target."""
    return "reached" if reached else "NOT REACHED"


def make_model(folder: Path) -> Path:
    """Write a model folder of base-960h's size with random weights, unless it exists; returns `folder`."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    if not (folder / "model.safetensors").exists():  # written last
        shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("model.safetensors"), dirs_exist_ok=True)
        torch.manual_seed(0)
        Wav2Vec2ForCTC(Wav2Vec2Config()).save_pretrained(folder)
    return folder


def memory_kb(pid: int, field: str = "VmHWM") -> int:
    """Memory of a process as Linux counts it: the peak (VmHWM), or now (VmRSS); 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(field)), 0)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that is drawn without a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
