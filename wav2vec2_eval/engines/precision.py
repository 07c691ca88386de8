# SPDX-License-Identifier: Apache-2.0
"""One name for each precision, and which engine of a CPU computes in it. Standard library only: --help reads it."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import SuiteError

# The name inside the suite and in --precision -> the name in NumPy, in PyTorch, in --dtype and in a result.
PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "int8": "int8"}
CPU_PRECISIONS = ("f32", "bf16", "int8")
PYTORCH_PRECISIONS = ("f32", "bf16", "f16")

CPU_ENGINES = ("auto", "onnxruntime", "openvino")
INSTALL_OPENVINO = "pip install -r requirements-openvino.txt"


def parse_precision(text: str) -> str:
    """Either name of a precision -> its name inside the suite. Any other text is returned as it is."""
    return next((short for short, long in PRECISIONS.items() if text == long), text)


def choose_cpu_engine(engine: str, precision: str, openvino_is_installed: Callable[[], bool]) -> str:
    """`onnxruntime` or `openvino`. "auto" is OpenVINO below float32 if it is installed, else onnxruntime.

    In float32 both are about as fast, and onnxruntime needs less memory. `openvino_is_installed` is called only if the
    answer depends on it, because it may import OpenVINO. Raises SuiteError for an engine that is not
    installed, and for a precision that the engine lacks.
    """
    if engine == "openvino" and not openvino_is_installed():
        raise SuiteError(f"--engine=openvino: OpenVINO cannot be imported; {INSTALL_OPENVINO}")
    if engine == "auto":
        engine = "openvino" if precision != "f32" and openvino_is_installed() else "onnxruntime"
    if engine == "onnxruntime" and precision == "bf16":
        raise SuiteError(
            f"--precision=bf16: onnxruntime computes in float32 on a CPU; OpenVINO does it: {INSTALL_OPENVINO}"
        )
    return engine
