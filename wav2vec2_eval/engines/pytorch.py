# SPDX-License-Identifier: Apache-2.0
"""The baseline's engine: the model in PyTorch, on a CPU, a GPU or (through torch_npu) an NPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import SuiteError
from ..files.names import INPUT
from ..files.tensors import DTYPE
from ..machine.cpu import cpu_name
from .base import Arrays, Conditions, Engine, Result, TensorSpec
from .clock import MeasureTime
from .narrow_groups import is_narrow
from .precision import PRECISIONS
from .verified import LIMITS, NUM_SAMPLES, refusal, relative_error, waveform

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel


class Device:
    """A device of PyTorch, with its name for a result. `synchronize` waits for the device; None on the CPU."""

    def __init__(self, torch_device: torch.device, name: str, synchronize: Callable[[], object] | None) -> None:
        self.torch_device = torch_device
        self.name = name
        self.synchronize = synchronize


def open_device(name: str) -> Device:
    """The device that `name` asks for: `cpu`, `cuda`, `npu`, or `auto` (cuda, else npu, else cpu).

    Raises SuiteError if this host does not have it.
    """
    import torch

    if name in ("auto", "cuda") and torch.cuda.is_available():
        device = torch.device("cuda")
        return Device(device, torch.cuda.get_device_name(device), torch.cuda.synchronize)
    if name in ("auto", "npu"):
        try:
            importlib.import_module("torch_npu")  # adds torch.npu
            npu = torch.npu  # type: ignore[attr-defined]  # torch_npu adds it
            if npu.is_available():
                return Device(torch.device("npu"), "npu", npu.synchronize)
        except ImportError:
            pass
    if name in ("auto", "cpu"):
        return Device(torch.device("cpu"), cpu_name(), None)
    raise SuiteError(
        f"--device={name}: PyTorch {torch.__version__} finds no such device on this host; try --device=auto"
    )


class PytorchEngine(Engine):
    """One utterance at a time, on a model that is moved to the device in this precision.

    Below float32 it proves itself first: raises SuiteError if its answers are not those of the CPU in float32.
    """

    def __init__(self, model: PreTrainedModel, device: Device, precision: str, num_threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(num_threads)
        self._device = device
        self._model = model
        self.inputs = [TensorSpec(INPUT, DTYPE["float32"], (None, None))]
        self.conditions = Conditions(
            engine=f"PyTorch {torch.__version__}, transformers {transformers.__version__}",
            device=device.name,
            precision=PRECISIONS[precision],
            num_threads=num_threads,
        )
        if precision == "f32":
            self._move(device.torch_device, torch.float32)
            return
        self._move(torch.device("cpu"), torch.float32)
        expected = self._logits()
        self._move(device.torch_device, getattr(torch, PRECISIONS[precision]))
        if device.torch_device.type == "cpu":
            _keep_narrow_in_float32(model)
        error, limit = relative_error([self._logits()], [expected]), LIMITS[precision]
        if not error <= limit:
            raise refusal(self.conditions, error, limit, "use --dtype=float32, or another --device")

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        self._model.to(device, dtype)  # type: ignore[arg-type]  # transformers' decorator hides `self`
        self._dtype = dtype

    def _logits(self) -> np.ndarray:
        """The answer to the test utterance."""
        with closing(self.stream([[waveform(NUM_SAMPLES)[None]]])) as results:
            (result,) = results
        return result.outputs[0]

    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        """Infer each utterance: (1, T) float32 -> (1, F, V) float32.

        Only the forward pass is timed, between two synchronisations of the device.
        """
        import torch

        clock: dict[str, int] = {}
        synchronize = self._device.synchronize
        with torch.inference_mode():
            for (samples,) in utterances:
                waveform = torch.from_numpy(samples).to(self._model.device, self._dtype)
                with MeasureTime(clock, "pure_ns", cpu_run=synchronize is None, synchronize=synchronize):
                    logits = self._model(waveform).logits
                yield Result([logits.float().cpu().numpy()], clock["pure_ns"])

    def close(self) -> None:
        del self._model


def _keep_narrow_in_float32(model: PreTrainedModel) -> None:
    """Let narrow convolutions, which a CPU may compute wrongly in a lower precision, compute in float32."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Conv1d) and is_narrow(module.in_channels // module.groups, *module.kernel_size):
            dtype = module.weight.dtype
            module.float()
            module.register_forward_pre_hook(lambda _, inputs: tuple(each.float() for each in inputs))
            module.register_forward_hook(lambda *call, dtype=dtype: call[-1].to(dtype))
