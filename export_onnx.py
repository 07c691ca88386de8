#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Export the model to ONNX, and prove that the file computes what PyTorch computes.

Writes wav2vec2-base-960h.onnx: opset 11, input `input` (batch_size, data_len) float32, output `output`
(batch_size, frames, symbols) float32. With --attention_mask, wav2vec2-base-960h-masked.onnx has a second input
`attention_mask` like the first. The file is checked by onnx and compared with PyTorch through onnxruntime, plain at
five lengths, masked at five lengths in all gears, and in some of them through OpenVINO, if that is installed; if they
differ, the export fails and leaves no file. With --quantize=int8, an int8 model is written beside it, unless it
recognises worse.

    python export_onnx.py --model_save_dir=./models
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_eval import MODEL_NAME, cli

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import Wav2Vec2ForCTC

    from wav2vec2_eval.engines import Engine
    from wav2vec2_eval.quantize import Samples

OPSET = 11  # the oldest that ATC documents for every CANN version in use
TRACED_SAMPLES = 40_000
PROOF_SAMPLES = (400, 10_000, 33_360, 73_123, 160_000)  # below and above the traced length, gears and others
MASKED_PROOF_SAMPLES = (400, 33_360, 73_123, 166_960, 559_280)  # true lengths, each in all gears that hold it
OTHER_PROOF_STEP = 8  # every so many gears prove the masked model in engines other than onnxruntime
MAX_RELATIVE_ERROR = 1e-4


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--model_save_dir", required=True, metavar="FOLDER", help="where the .onnx file is written")
    cli.add_model_option(parser)
    parser.add_argument(
        "--attention_mask",
        action="store_true",
        help=f"export {MODEL_NAME}-masked.onnx, whose second input attention_mask marks the real samples: "
        "its logits do not depend on the padding",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="also export a quantized model, ...-int8.onnx, for pyacl_infer.py --precision=int8; needs NNCF",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a manifest of preprocess.py: half of its utterances calibrate --quantize, the others prove its accuracy",
    )
    args = parser.parse_args(argv)
    if (args.quantize is None) != (args.calibration is None):
        parser.error("--quantize and --calibration go together")
    return args


def check_supported(model: Wav2Vec2ForCTC, name: str, attention_mask: bool) -> None:
    """Raise SuiteError for a model whose frames or blank are not what the rest of the suite takes them for."""
    from wav2vec2_eval.audio import CONV_KERNELS, CONV_STRIDES
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.model_folder import symbols

    kernels, strides = tuple(model.config.conv_kernel), tuple(model.config.conv_stride)
    if (kernels, strides) != (CONV_KERNELS, CONV_STRIDES):
        raise SuiteError(
            f"{name}: expected the convolutions of wav2vec 2.0 with kernels {CONV_KERNELS} and strides {CONV_STRIDES}, "
            f"found {kernels} and {strides}, which give other frames"
        )
    if attention_mask:  # padding becomes the blank of config.json, and decoding drops that of the tokenizer
        known, blank = symbols(name), model.config.pad_token_id
        symbol = dict(enumerate(known.table)).get(blank, "no symbol")
        if symbol != known.blank:
            raise SuiteError(
                f"{name}: pad_token_id in config.json is {blank}, which is {symbol!r}, but the tokenizer's pad_token "
                f"is {known.blank!r}; --attention_mask needs them to be the same"
            )


def fold_weight_norm(model: Wav2Vec2ForCTC) -> None:
    """Replace the positional convolution's weight norm, which only training needs, by the weight it yields."""
    from torch.nn.utils import parametrize

    parametrize.remove_parametrizations(model.wav2vec2.encoder.pos_conv_embed.conv, "weight")


def wrap(model: Wav2Vec2ForCTC, attention_mask: bool) -> torch.nn.Module:
    """What is exported: (batch_size, data_len) inputs -> (batch_size, frames, symbols) logits."""
    import torch

    from wav2vec2_eval.masked import MaskedWav2Vec2

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return self.model(waveform).logits

    # In evaluation mode itself: the exporter leaves every part in its wrapper's mode.
    return (MaskedWav2Vec2(model) if attention_mask else Logits()).eval()


def trace(module: torch.nn.Module, input_names: Sequence[str], path: Path) -> None:
    """Write the module's graph to `path`."""
    import torch

    with warnings.catch_warnings():
        # The exporter that still writes opset 11 announces its age, and the tracer every shape check in the model.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(torch.ones(1, TRACED_SAMPLES) for _ in input_names),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=["output"],
            dynamic_axes={
                **{name: {0: "batch_size", 1: "data_len"} for name in input_names},
                "output": {0: "batch_size", 1: "frames"},
            },
        )


def remove_no_ops(path: Path) -> None:
    """Take nodes out of the graph that only hand on their input: Identity, and Cast to the type that it has already."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    source: dict[str, str] = {}  # a no-op's output -> what it hands on
    for node in list(graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)
        is_no_op = node.op_type == "Identity" or (
            node.op_type == "Cast" and types.get(node.input[0]) == node.attribute[0].i
        )
        if is_no_op and node.output[0] not in {output.name for output in graph.output}:
            source[node.output[0]] = node.input[0]
            graph.node.remove(node)
    del graph.value_info[:]
    onnx.save(model, path)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest logit. Raises SuiteError if the shapes differ."""
    from wav2vec2_eval.errors import SuiteError

    if actual.shape != expected.shape:
        raise SuiteError(f"expected logits of shape {expected.shape}, the exported model gives {actual.shape}")
    return float(abs(actual - expected).max() / abs(expected).max())


def compare(model: Wav2Vec2ForCTC, engine: Engine) -> Iterator[float]:
    """Relative errors of the exported `model` on noise of several lengths, and on a batch."""
    import numpy as np
    import torch

    noise = np.random.default_rng(0).standard_normal
    shapes = [(1, length) for length in PROOF_SAMPLES]
    shapes.append((2, PROOF_SAMPLES[1]))  # the batch axis, too, must have stayed free
    for shape in shapes:
        waveform = noise(shape, dtype=np.float32)
        (result,) = engine.stream([[waveform]])
        error = relative_error(result.outputs[0], model(torch.from_numpy(waveform)).logits.numpy())
        print(f"  {shape[0]} x {shape[1]:6d} samples: relative error {error:.1e}")
        yield error


def compare_padded(model: Wav2Vec2ForCTC, engine: Engine, all_gears: Sequence[int]) -> Iterator[float]:
    """Relative errors of the exported masked model, padded to each gear that holds it, against the unpadded `model`.

    Frames beyond the end must be the blank: infinite error otherwise.
    """
    import numpy as np
    import torch
    from tqdm import tqdm

    from wav2vec2_eval.audio import pad

    noise = np.random.default_rng(0).standard_normal
    for length in MASKED_PROOF_SAMPLES:
        waveform, real = noise(length, dtype=np.float32), np.ones(length, np.float32)
        expected = model(torch.from_numpy(waveform[None])).logits.numpy()
        frames = expected.shape[1]
        gears = [gear for gear in all_gears if gear >= length]
        worst, flips = 0.0, 0
        for gear in tqdm(gears, desc=f"{length} samples", unit="gear", disable=None, leave=False):
            (result,) = engine.stream([[pad(waveform, gear)[None], pad(real, gear)[None]]])
            logits = result.outputs[0]
            error = relative_error(logits[:, :frames], expected)
            beyond = logits[0, frames:].argmax(-1)
            error = error if (beyond == model.config.pad_token_id).all() else float("inf")
            flips += int((logits[:, :frames].argmax(-1) != expected.argmax(-1)).sum())
            worst = max(worst, error)
            yield error
        print(f"  {length:6d} samples in {len(gears):2d} gears: relative error {worst:.1e}, {flips} other symbols")
    yield from compare_batch(model, engine)


def compare_batch(model: Wav2Vec2ForCTC, engine: Engine) -> Iterator[float]:
    """The relative error of two utterances of different length in one batch, against each by itself."""
    import numpy as np
    import torch

    from wav2vec2_eval.audio import pad

    long, short = 20_000, 12_345
    waveforms = [np.random.default_rng(1).standard_normal(length, dtype=np.float32) for length in (long, short)]
    batch = np.stack([pad(waveform, long) for waveform in waveforms])
    mask = np.stack([pad(np.ones_like(waveform), long) for waveform in waveforms])
    (result,) = engine.stream([[batch, mask]])
    for waveform, logits in zip(waveforms, result.outputs[0]):
        expected = model(torch.from_numpy(waveform[None])).logits.numpy()
        yield relative_error(logits[None, : expected.shape[1]], expected)


def prove(model: Wav2Vec2ForCTC, path: Path, attention_mask: bool) -> None:
    """Raise SuiteError unless the file computes what `model` computes, in every engine that this host's CPU has."""
    import numpy as np
    import torch

    from wav2vec2_eval import openvino_engine
    from wav2vec2_eval.audio import GEARS
    from wav2vec2_eval.engines import open_engine
    from wav2vec2_eval.errors import SuiteError

    for name in ("onnxruntime", "openvino") if openvino_engine.is_installed() else ("onnxruntime",):
        gears = GEARS if name == "onnxruntime" else GEARS[::-OTHER_PROOF_STEP][::-1]
        with open_engine(path, num_threads=cli.default_threads(), engine=name) as engine, torch.inference_mode():
            print(f"{engine.conditions['engine']} against PyTorch {torch.__version__}, float32:")
            errors = list(compare_padded(model, engine, gears) if attention_mask else compare(model, engine))
        worst = float(np.max(errors))  # NaN if any is NaN
        print(f"worst relative error: {worst:.1e}")
        if not worst <= MAX_RELATIVE_ERROR:
            raise SuiteError(
                f"{path.name}: not written: {name} and PyTorch differ by {worst:.1e} relative, "
                f"expected at most {MAX_RELATIVE_ERROR:.0e}"
            )


def export(model: Wav2Vec2ForCTC, path: Path, attention_mask: bool = False) -> None:
    """Write `path` if, and only if, its graph is valid and equals `model`. Raises SuiteError otherwise."""
    import onnx

    names = ["input", "attention_mask"] if attention_mask else ["input"]
    with candidate(path) as new:
        trace(wrap(model, attention_mask), names, new)
        remove_no_ops(new)
        onnx.checker.check_model(new, full_check=True)
        prove(model, new, attention_mask)


def export_int8(source: Path, path: Path, calibrated: Samples, held_out: Samples, model_name: str) -> None:
    """Quantize `source` into `path` if, and only if, that costs no accuracy. Raises SuiteError otherwise."""
    import onnx

    from wav2vec2_eval import model_folder, quantize
    from wav2vec2_eval.errors import SuiteError

    symbols = model_folder.symbols(model_name)
    with candidate(path) as new:
        quantize.quantize(source, new, calibrated)
        onnx.checker.check_model(new, full_check=True)
        exact, quantized = (
            quantize.word_error_rate(file, precision, held_out, symbols, cli.default_threads())
            for file, precision in ((source, "f32"), (new, "int8"))
        )
        figures = f"WER {quantized:.4f} in int8, {exact:.4f} in f32, on {len(held_out)} held-out utterances"
        print(figures)
        if not quantized <= exact + quantize.MAX_LOSS:
            raise SuiteError(f"{path.name}: not written: {figures}; expected at most {quantize.MAX_LOSS} more")


@contextmanager
def candidate(path: Path) -> Iterator[Path]:
    """Where to write what will become `path` if the block ends without an exception, and is removed otherwise."""
    from wav2vec2_eval import folders

    new = path.with_name(f".{path.stem}.tmp.onnx")
    with folders.locked(path.parent):
        try:
            yield new
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.quantize:  # what is wrong with its options need not wait for the export
        from wav2vec2_eval import quantize

        quantize.check_installed()
        calibrated, held_out = quantize.read_samples(args.calibration, 2 if args.attention_mask else 1)
    from wav2vec2_eval.pytorch import load_model

    # ONNX has no fused attention at opset 11.
    model = load_model(args.model_name_or_path, attention="eager")
    check_supported(model, args.model_name_or_path, args.attention_mask)
    fold_weight_norm(model)
    path = Path(args.model_save_dir) / f"{MODEL_NAME}{'-masked' if args.attention_mask else ''}.onnx"
    export(model, path, args.attention_mask)
    print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if args.quantize:
        del model
        int8 = path.with_name(f"{path.stem}-int8.onnx")
        export_int8(path, int8, calibrated, held_out, args.model_name_or_path)
        print(f"written: {int8} ({int8.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    cli.run(main)
