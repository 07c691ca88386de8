# SPDX-License-Identifier: Apache-2.0
"""Opening the engine that a model file needs."""

from __future__ import annotations

from pathlib import Path

from ..errors import SuiteError
from .base import Engine
from .model_file import check_seal
from .npu.engine import NpuEngine
from .onnxruntime_cpu import OnnxruntimeEngine
from .openvino_cpu import OpenVinoEngine
from .openvino_model import is_installed
from .precision import choose_cpu_engine
from .verified import check_engine


def open_engine(
    model_path: Path,
    *,
    num_threads: int,
    batch_size: int = 1,
    engine: str = "auto",
    precision: str = "f32",
    in_flight: int | None = None,
    device_id: int = 0,
    sync_infer: bool = True,
    cpu_run: bool = True,
    prove: bool = True,
) -> Engine:
    """Open the engine that `model_path` needs, by its suffix: `.om` and `.om2` run on an NPU, `.onnx` on this CPU.

    CPU only: `engine` (one of CPU_ENGINES), `precision` (one of CPU_PRECISIONS), `num_threads`, `batch_size` utterances
    in one execution, `in_flight` executions side by side (OpenVINO only), and `prove`: False believes the engine
    without verified.py, because the caller compares its answers. NPU only: `device_id`, `sync_infer` and `cpu_run`.
    Raises SuiteError for a model that is missing, corrupt or of another kind, for what the host or the engine cannot
    do, and for an engine that computes wrongly on this CPU.
    """
    if model_path.is_dir():
        raise SuiteError(f"{model_path}: expected a model, found a folder; give the .onnx or .om file in it")
    if not model_path.is_file():
        raise SuiteError(f"{model_path}: no such model file; run export_onnx.py (and onnx2om.sh) first")
    if model_path.suffix == ".onnx":
        check_seal(model_path)
        opened: Engine
        if choose_cpu_engine(engine, precision, is_installed) == "openvino":
            opened = OpenVinoEngine(model_path, num_threads, precision, batch_size, in_flight)
        elif (in_flight or 1) > 1:
            raise SuiteError(f"--in_flight={in_flight}: onnxruntime takes one at a time; use --engine=openvino")
        else:
            opened = OnnxruntimeEngine(model_path, num_threads, precision, batch_size)
            prove = prove and precision != "f32"  # in which it is the reference
        if prove:
            try:
                check_engine(opened, model_path, precision)
            except BaseException:
                opened.close()
                raise
        return opened
    if model_path.suffix in (".om", ".om2"):  # atc --mode=7 writes the second
        if batch_size != 1:
            raise SuiteError(f"--batch_size={batch_size}: an .om model takes one utterance at a time; leave it out")
        if engine != "auto" or precision != "f32" or in_flight:
            raise SuiteError(
                f"{model_path}: --engine, --precision and --in_flight are for .onnx models on a CPU; for an .om see "
                f"onnx2om.sh and --sync_infer"
            )
        return NpuEngine(model_path, device_id, sync_infer, cpu_run)
    raise SuiteError(f"{model_path}: expected a model that ends in .onnx, .om or .om2; see --model_path")
