# SPDX-License-Identifier: Apache-2.0
"""For programs: speech in memory to text, without a file between. An exported .onnx says in its metadata how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SuiteError
from ..files.model_record import ModelRecord, record_of_model
from ..files.results import check_logits
from ..files.tensors import format_shape
from ..machine.cpu import default_threads
from ..speech.audio import frame_count
from ..speech.ctc import greedy_decode
from ..speech.padding import attention_mask, padded_length
from .base import Engine
from .choose import open_engine

_KEY = "of the samples"  # what errors call the utterance


@contextmanager
def transcriber(model_path: Path | str, **options: Any) -> Iterator[Callable[[np.ndarray], str]]:
    """Open an exported .onnx: yields a function from samples to text, which `transcribe` describes.

    `options` are those of `open_engine`; `num_threads` defaults to all cores. Raises SuiteError for a model that cannot
    be opened, or that does not say which symbols its outputs are.
    """
    path = Path(model_path)
    with open_engine(path, **{"num_threads": default_threads(), **options}) as engine:
        record = record_of_model(engine.metadata, str(path))
        if record is None:
            raise SuiteError(f"{path}: does not say which symbols its outputs are; give an .onnx of export_onnx.py")
        yield lambda samples: transcribe(engine, record, samples)


def transcribe(engine: Engine, record: ModelRecord, samples: np.ndarray) -> str:
    """The text of one utterance: (T,) floats in [-1, 1), 16 kHz mono.

    It is padded if the engine's model has gears. Raises SuiteError for other arrays, and for one that is too short or
    too long for the model.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise SuiteError(
            f"expected (T,) finite floats of 16 kHz mono, found {samples.dtype.name} {format_shape(samples.shape)}; "
            f"convert the samples, integers by dividing them by their type's largest number"
        )
    gears = None if engine.gears is None else sorted(gear[-1] for gear in engine.gears)
    length = padded_length(len(samples), gears)
    waveform = record.extractor(samples.astype(np.float32, copy=False), length)
    arrays = [waveform, attention_mask(len(samples), length)][: len(engine.inputs)]
    engine.check_shapes(_KEY, [array.shape for array in arrays])
    with closing(engine.stream([engine.convert(_KEY, arrays)])) as results:
        (result,) = results
    logits, frames = result.outputs[0], frame_count(length)
    check_logits("the model", logits, len(record.symbols.table), frames, frames)
    return greedy_decode(logits[0], record.symbols)
