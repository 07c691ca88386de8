#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What zero-padding does to the answers of a model, and what the attention mask does about it.

Every utterance goes through onnxruntime unpadded, padded to its gear and padded to twice its length, by the plain and
by the masked export. Prints WER and the share of utterances whose transcript changes; draws the error of the logits
against the amount of padding (padding.png).

    python test/bench/padding.py --model_name_or_path=test/demo/model --dataset_path=test/demo/LibriSpeech \\
        --which_dataset=clean --work_dir=/tmp/padding
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import export_onnx  # noqa: E402
from wav2vec2_eval import audio, cli, ctc, librispeech, model_folder, scoring  # noqa: E402
from wav2vec2_eval.engines import Engine, open_engine  # noqa: E402

PADDED_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the utterance's length, for the plot
PLOTTED = 20  # utterances


class Utterance(NamedTuple):
    samples: np.ndarray  # (T,) normalised, unpadded
    text: str


def read_all(args) -> list[Utterance]:
    dataset = librispeech.open_dataset(args.which_dataset, args.dataset_path, args.limit)
    extractor = model_folder.feature_extractor(args.model_name_or_path)
    inputs = (librispeech.model_input(dataset, index, extractor) for index in range(len(dataset.ids)))
    return [Utterance(item.samples[0], text) for item, text in zip(inputs, dataset.texts)]


def infer(engine: Engine, samples: np.ndarray, length: int) -> np.ndarray:
    """(F, V) logits of one utterance, padded to `length` samples."""
    inputs = [audio.pad(samples, length)[None], audio.pad(np.ones_like(samples), length)[None]]
    (result,) = engine.stream([inputs[: len(engine.inputs)]])
    return result.outputs[0][0]


def transcribe(engine: Engine, utterances: list[Utterance], symbols: ctc.Symbols, how: str) -> list[str]:
    lengths = {
        "unpadded": len,
        "padded to gears": lambda samples: audio.padded_length(len(samples), audio.GEARS),
        "padded to twice the length": lambda samples: 2 * len(samples),
    }
    return [ctc.greedy_decode(infer(engine, u.samples, lengths[how](u.samples)), symbols) for u in utterances]


def table(engines: Mapping[str, Engine], utterances: list[Utterance], symbols: ctc.Symbols) -> Iterator[str]:
    """The lines of the result, as Markdown."""
    references = [utterance.text for utterance in utterances]
    truth = transcribe(engines["plain"], utterances, symbols, "unpadded")
    yield "| padding | model | WER | transcripts that change |"
    yield "| --- | --- | ---: | ---: |"
    for how in ("unpadded", "padded to gears", "padded to twice the length"):
        for name, engine in engines.items():
            texts = transcribe(engine, utterances, symbols, how)
            wer = scoring.corpus_errors(references, texts).wer
            changed = sum(text != true for text, true in zip(texts, truth))
            yield f"| {how} | {name} | {100 * wer:.2f} % | {changed} of {len(texts)} |"


def logit_errors(engine: Engine, plain: Engine, utterances: list[Utterance]) -> np.ndarray:
    """(utterances, PADDED_SHARES) relative errors on the frames of the unpadded utterance."""
    errors = []
    for utterance in utterances[:PLOTTED]:
        length = len(utterance.samples)
        expected = infer(plain, utterance.samples, length)
        lengths = (length + max(1, round(share * length)) for share in PADDED_SHARES)
        padded = (infer(engine, utterance.samples, longer)[: len(expected)] for longer in lengths)
        errors.append([np.abs(logits - expected).max() / np.abs(expected).max() for logits in padded])
    return np.array(errors)


def draw(errors: Mapping[str, np.ndarray], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
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


def main() -> int:
    parser = cli.ArgumentParser(__doc__)
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    parser.add_argument("--work_dir", type=Path, required=True, help="where models, table and plot are written")
    args = parser.parse_args()
    paths = {"plain": "wav2vec2-base-960h.onnx", "masked": "wav2vec2-base-960h-masked.onnx"}
    for name, file in paths.items():
        if not (args.work_dir / file).exists():
            options = ["--attention_mask"] if name == "masked" else []
            model = f"--model_name_or_path={args.model_name_or_path}"
            export_onnx.main([f"--model_save_dir={args.work_dir}", model, *options])
    engines = {
        name: open_engine(args.work_dir / file, num_threads=cli.default_threads()) for name, file in paths.items()
    }
    utterances = read_all(args)
    lines = [
        f"{args.model_name_or_path}, {args.which_dataset} from {args.dataset_path or 'the hub'}: {len(utterances)} "
        f"utterances, {engines['plain'].conditions['engine']} on {engines['plain'].conditions['device']}, float32",
        "",
        *table(engines, utterances, model_folder.symbols(args.model_name_or_path)),
    ]
    print("\n".join(lines))
    (args.work_dir / "padding.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    errors = {name: logit_errors(engine, engines["plain"], utterances) for name, engine in engines.items()}
    for name, values in errors.items():
        print(f"{name}: largest logit error {values.max():.1e}")
    draw(errors, args.work_dir / "padding.png")
    print(f"written: {args.work_dir / 'padding.md'}, {args.work_dir / 'padding.png'}")
    return 0


if __name__ == "__main__":
    cli.run(lambda _argv: main())
