#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The baseline: the same utterances through PyTorch, scored and timed in the same way.

Utterances go through the model one at a time, unpadded unless --gears says otherwise. Writes transcriptions.txt, with
wer.txt, utterance_scores.tsv, infer_time.txt and run.json (the conditions) beside it.

    python pth_online_infer.py --which_dataset=clean \\
        --pred_res_save_path=./pth_online_infer_res/clean/transcriptions.txt
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import cli

# isort: split

import argparse
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval.engines.precision import PRECISIONS, PYTORCH_PRECISIONS, parse_precision

if TYPE_CHECKING:
    import numpy as np

    from wav2vec2_eval.engines.base import Engine
    from wav2vec2_eval.files.manifest import Utterance
    from wav2vec2_eval.sources.base import Dataset
    from wav2vec2_eval.sources.model_input import ModelInput
    from wav2vec2_eval.speech.ctc import Symbols
    from wav2vec2_eval.speech.latency import Latency

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    option = parser.add_argument
    option("--pred_res_save_path", required=True, type=cli.path, metavar="FILE", help="transcriptions to write")
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    option("--device", choices=("auto", "cpu", "cuda", "npu"), default="auto", help="auto: cuda, else npu, else cpu")
    option(
        "--dtype",
        type=parse_precision,
        choices=PYTORCH_PRECISIONS,
        metavar=f"{{{','.join(PRECISIONS[name] for name in PYTORCH_PRECISIONS)}}}",
        default="float32",
        help="of weights and computing",
    )
    option("--gears", type=cli.checked(cli.parse_gears), default="none", help="lengths to pad to, as in preprocess.py")
    cli.add_workspace_option(parser, None, " (default: 1, or 0 of a single utterance)")
    cli.add_threads_option(parser)
    return parser.parse_args(argv)


class Inferred(NamedTuple):
    """All utterances through the model, in data set order."""

    references: list[Utterance]
    transcripts: list[str]
    latencies: list[Latency]


def infer_all(
    engine: Engine, inputs: Iterator[ModelInput], dataset: Dataset, symbols: Symbols, reads_ahead: bool
) -> Inferred:
    """Infer and decode the utterances, with a progress bar if there is a terminal."""
    from tqdm import tqdm

    from wav2vec2_eval.engines.clock import timed
    from wav2vec2_eval.files.manifest import new_utterance
    from wav2vec2_eval.machine.overlap import read_ahead
    from wav2vec2_eval.speech.ctc import greedy_decode

    found = Inferred([], [], [])
    lengths: list[int] = []  # in samples, of the utterances that were read so far

    def utterances() -> Generator[list[np.ndarray], None, None]:
        for num_samples, samples in inputs:
            lengths.append(num_samples)
            yield [samples]

    with closing(read_ahead(utterances()) if reads_ahead else utterances()) as ready:
        progress = tqdm(timed(engine.stream(ready)), total=len(dataset), unit="utterance", disable=None)
        for index, (result, latency) in enumerate(progress):
            utterance_id = dataset.ids[index]
            found.references.append(new_utterance(str(index), utterance_id, lengths[index], dataset.texts[index]))
            found.transcripts.append(greedy_decode(result.outputs[0][0], symbols, utterance_id))
            found.latencies.append(latency)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    import torch

    from wav2vec2_eval.engines.pytorch import PytorchEngine, open_device
    from wav2vec2_eval.files.names import INFER_TIME_NAME
    from wav2vec2_eval.files.run import Run
    from wav2vec2_eval.files.scores import scores_folder, write_scores
    from wav2vec2_eval.sources import model_folder
    from wav2vec2_eval.sources.choose import check_paths, open_dataset
    from wav2vec2_eval.sources.model_input import model_input
    from wav2vec2_eval.sources.pytorch_model import load_model
    from wav2vec2_eval.speech.audio import SAMPLE_RATE
    from wav2vec2_eval.speech.latency import check_warm_up, format_figures, summarise

    path = args.pred_res_save_path
    check_paths(args.dataset_path, args.model_name_or_path)
    with scores_folder(path, SCRIPT) as folder:
        dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
        warm_up = min(1, len(dataset) - 1) if args.warm_up is None else args.warm_up
        check_warm_up(warm_up, len(dataset))
        extractor = model_folder.feature_extractor(args.model_name_or_path)
        symbols = model_folder.symbols(args.model_name_or_path, args.target_lang)
        device = open_device(args.device)
        dtype = getattr(torch, PRECISIONS[args.dtype])
        model = load_model(args.model_name_or_path, dtype=dtype, target_lang=args.target_lang)

        inputs = (model_input(dataset, index, extractor, args.gears) for index in range(len(dataset)))
        with PytorchEngine(model, device, args.dtype, args.num_threads) as engine:
            # On a CPU, reading ahead would take a core from the model.
            found = infer_all(engine, inputs, dataset, symbols, reads_ahead=device.synchronize is not None)

        data = Run(which_dataset=args.which_dataset, dataset_path=args.dataset_path, padded=args.gears is not None)
        run = Run(SCRIPT, model=args.model_name_or_path, **engine.conditions._asdict(), warm_up=warm_up, data=data)
        write_scores(folder, path.name, zip(found.references, found.transcripts), SCRIPT, inference=run)
        lengths_s = [utterance.num_samples / SAMPLE_RATE for utterance in found.references]
        text = format_figures(summarise(found.latencies, warm_up, lengths_s))
        folder.write_text(INFER_TIME_NAME, text)
    print(f"{run.precision} on {device.torch_device}\n{text}", end="")
    return 0


if __name__ == "__main__":
    cli.run(main)
