#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How zero-padding changes the answers of a model, and how the attention mask prevents that.

The plain and the masked export infer every utterance through onnxruntime: unpadded, padded to its gear, and padded to
twice its length. Prints the WER, and how many transcripts change. Draws the error of the logits against the amount of
padding (padding.png).

    python test/bench/padding.py --model_name_or_path=test/demo/model --dataset_path=test/demo/LibriSpeech \\
        --which_dataset=clean --work_dir=/tmp/padding
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from common import conditions, new_figure, new_parser, script_command

from wav2vec2_eval import MODEL_NAME, cli
from wav2vec2_eval.engines.base import Engine
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.names import model_name
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.sources import model_folder
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_input import Preparation, model_inputs
from wav2vec2_eval.speech.ctc import Symbols, greedy_decode
from wav2vec2_eval.speech.padding import GEARS, masked_input, padded_length
from wav2vec2_eval.speech.wer import total, word_errors

# What is printed -> the length that an utterance of so many samples is padded to.
PADDINGS: dict[str, Callable[[int], int]] = {
    "unpadded": lambda num_samples: num_samples,
    "padded to gears": lambda num_samples: padded_length(num_samples, GEARS),
    "padded to twice the length": lambda num_samples: 2 * num_samples,
}
PADDED_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the utterance's length, for the plot
PLOTTED = 20  # utterances

Waveforms = Sequence[np.ndarray]  # (T,) normalised, unpadded


def export(model: str, folder: Path, attention_mask: bool) -> Path:
    """Export the model by export_onnx.py, unless the file exists; returns its path."""
    path = folder / model_name(MODEL_NAME, attention_mask=attention_mask)
    options = ["--attention_mask"] if attention_mask else []
    command = script_command("export_onnx.py", f"--model_save_dir={folder}", f"--model_name_or_path={model}", *options)
    if not path.exists() and (status := subprocess.run(command, check=False).returncode):
        raise SuiteError(f"export_onnx.py: ended with status {status}")
    return path


def infer(engine: Engine, waveform: np.ndarray, length: int) -> np.ndarray:
    """(F, V) logits of one utterance, padded to `length` samples."""
    arrays = masked_input(waveform, length)[: len(engine.inputs)]
    (result,) = engine.stream([arrays])
    logits: np.ndarray = result.outputs[0][0]
    return logits


def transcribe(engine: Engine, waveforms: Waveforms, symbols: Symbols, padding: str) -> list[str]:
    """Infer and decode the utterances with one of PADDINGS."""
    length = PADDINGS[padding]
    return [greedy_decode(infer(engine, each, length(len(each))), symbols) for each in waveforms]


def table(
    engines: Mapping[str, Engine], waveforms: Waveforms, references: Sequence[str], symbols: Symbols
) -> Iterator[str]:
    """The lines of the result, as Markdown."""
    unpadded = transcribe(engines["plain"], waveforms, symbols, "unpadded")
    yield "| padding | model | WER | transcripts that change |"
    yield "| --- | --- | ---: | ---: |"
    for padding in PADDINGS:
        for name, engine in engines.items():
            texts = transcribe(engine, waveforms, symbols, padding)
            wer = total(word_errors(references, texts)).wer
            changed = sum(text != expected for text, expected in zip(texts, unpadded))
            yield f"| {padding} | {name} | {100 * wer:.2f} % | {changed} of {len(texts)} |"


def logit_errors(engine: Engine, plain: Engine, waveforms: Waveforms) -> np.ndarray:
    """(utterances, PADDED_SHARES) relative errors on the frames of the unpadded utterance."""
    errors = []
    for waveform in waveforms[:PLOTTED]:
        length = len(waveform)
        expected = infer(plain, waveform, length)
        lengths = (length + max(1, round(share * length)) for share in PADDED_SHARES)
        padded = (infer(engine, waveform, longer)[: len(expected)] for longer in lengths)
        errors.append([np.abs(logits - expected).max() / np.abs(expected).max() for logits in padded])
    return np.array(errors)


def draw(errors: Mapping[str, np.ndarray], path: Path) -> None:
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    percent = 100 * np.array(PADDED_SHARES)
    for (name, values), colour in zip(errors.items(), ("tab:red", "tab:blue")):
        axes.plot(percent, np.median(values, axis=0), "o-", color=colour, label=f"{name}, median")
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(percent, low, high, color=colour, alpha=0.2, label=f"{name}, all utterances")
    axes.set(
        xscale="log", yscale="log", xlabel="padding added, % of the utterance", ylabel="relative error of the logits"
    )
    axes.set_xticks(percent, [f"{value:g}" for value in percent])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    args = parser.parse_args(argv)
    work: Path = args.work_dir
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
    extractor = model_folder.feature_extractor(args.model_name_or_path)
    symbols = model_folder.symbols(args.model_name_or_path)
    how, texts = Preparation(extractor), [text or "" for text in dataset.texts]
    waveforms = [item.samples[0] for index in range(len(dataset)) for item in model_inputs(dataset, index, how)]
    lines = [
        *conditions("numpy", "onnxruntime"),
        f"{args.model_name_or_path} through onnxruntime in float32; {args.which_dataset} from "
        f"{args.dataset_path or 'the hub'}: {len(dataset)} utterances",
        "",
    ]
    print(*lines, sep="\n", flush=True)  # before the output of export_onnx.py
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(
                open_engine(export(args.model_name_or_path, work, masked), num_threads=default_threads())
            )
            for name, masked in (("plain", False), ("masked", True))
        }
        for line in table(engines, waveforms, texts, symbols):
            print(line)
            lines.append(line)
        (work / "padding.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        errors = {name: logit_errors(engine, engines["plain"], waveforms) for name, engine in engines.items()}
    for name, values in errors.items():
        print(f"{name}: largest logit error {values.max():.1e}")
    draw(errors, work / "padding.png")
    print(f"written: {work / 'padding.md'}, {work / 'padding.png'}")
    return 0


if __name__ == "__main__":
    cli.run(main)
