#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The baseline: the same utterances through PyTorch, scored and timed in the same way.

Utterances go through the model one at a time, unpadded unless --gears says otherwise. Writes transcriptions.txt, with
wer.txt, utterance_scores.tsv, infer_time.txt and run.json (the conditions) beside it.

    python pth_online_infer.py --which_dataset=clean \\
        --pred_res_save_path=./pth_online_infer_res/clean/transcriptions.txt
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wav2vec2_eval import audio, cli, pipeline
from wav2vec2_eval.timing import INFER_TIME_NAME, Latency, MeasureTime, check_workspace, format_figures, summarise

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import Wav2Vec2ForCTC

    from wav2vec2_eval.librispeech import ModelInput

SCRIPT = Path(__file__).name


class Inference(NamedTuple):
    """One utterance through the model."""

    num_samples: int
    logits: np.ndarray  # (F, V) float32
    latency: Latency


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    option = parser.add_argument
    option("--pred_res_save_path", required=True, type=Path, metavar="FILE", help="transcriptions to write")
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    option("--device", choices=("auto", "cpu", "cuda", "npu"), default="auto", help="auto: cuda, else npu, else cpu")
    option("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of weights and computing")
    option(
        "--gears", type=cli.checked(audio.parse_gears), default="none", help="lengths to pad to, as in preprocess.py"
    )
    cli.add_workspace_option(parser, None, " (default: 1, or 0 of a single utterance)")
    option("--num_threads", type=cli.integer(1), default=cli.default_threads(), metavar="N", help="CPU threads")
    return parser.parse_args(argv)


def open_device(name: str) -> tuple[torch.device, Callable[[], object] | None]:
    """The device that `name` asks for, and its synchronize function (None for the CPU).

    Raises SuiteError if this host does not have it.
    """
    import importlib

    import torch

    from wav2vec2_eval.errors import SuiteError

    if name == "cpu" or (name in ("auto", "cuda") and torch.cuda.is_available()):
        return (torch.device("cpu"), None) if name == "cpu" else (torch.device("cuda"), torch.cuda.synchronize)
    if name in ("auto", "npu"):
        try:
            importlib.import_module("torch_npu")  # adds torch.npu
            if torch.npu.is_available():
                return torch.device("npu"), torch.npu.synchronize
        except ImportError:
            pass
    if name == "auto":
        return torch.device("cpu"), None
    raise SuiteError(
        f"--device={name}: PyTorch {torch.__version__} finds no such device on this host; try --device=auto"
    )


def load(name: str, dtype: str, device: torch.device) -> Wav2Vec2ForCTC:
    """The model in `dtype` on `device`."""
    import torch

    from wav2vec2_eval.pytorch import load_model

    return load_model(name, dtype=getattr(torch, dtype)).to(device)


def infer(
    model: Wav2Vec2ForCTC,
    inputs: Iterable[ModelInput],
    synchronize: Callable[[], object] | None,
) -> Iterator[Inference]:
    """Infer each utterance by itself. Only the forward pass is timed, between two synchronisations of the device."""
    import torch

    clock: dict[str, int] = {}
    start_ns = time.perf_counter_ns()
    # On a CPU, decoding ahead would take a core from the model.
    ahead = nullcontext(inputs) if synchronize is None else closing(pipeline.read_ahead(inputs))
    with torch.inference_mode(), ahead as ready:
        for num_samples, samples in ready:
            waveform = torch.from_numpy(samples).to(model.device, model.dtype)
            with MeasureTime(clock, "pure_ns", cpu_run=synchronize is None, synchronize=synchronize):
                logits = model(waveform).logits
            logits = logits[0].float().cpu().numpy()
            now_ns = time.perf_counter_ns()
            yield Inference(num_samples, logits, Latency(clock["pure_ns"] / 1e6, (now_ns - start_ns) / 1e6))
            start_ns = now_ns


def conditions(args: argparse.Namespace, device: torch.device, warm_up: int) -> dict[str, Any]:
    """What a reader of the figures must know."""
    import torch
    import transformers

    names = {"cpu": cli.cpu_name, "cuda": lambda: torch.cuda.get_device_name(device)}
    name = names.get(device.type, lambda: device.type)()
    return {
        "model": args.model_name_or_path,
        "engine": f"PyTorch {torch.__version__}, transformers {transformers.__version__}",
        "device": name,
        "num_threads": args.num_threads,
        "precision": args.dtype,
        "warm_up": warm_up,
        "data": {
            "which_dataset": args.which_dataset,
            "dataset_path": args.dataset_path,
            "padded": args.gears is not None,
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    import torch
    from tqdm import tqdm

    from wav2vec2_eval import ctc, librispeech, manifest, model_folder, scoring, tensors

    folder = args.pred_res_save_path.parent
    dataset = librispeech.open_dataset(args.which_dataset, args.dataset_path, args.limit)
    warm_up = min(1, len(dataset.ids) - 1) if args.warm_up is None else args.warm_up
    check_workspace(warm_up, len(dataset.ids))
    extractor = model_folder.feature_extractor(args.model_name_or_path)
    symbols = model_folder.symbols(args.model_name_or_path)
    scoring.check_output(args.pred_res_save_path, SCRIPT)
    device, synchronize = open_device(args.device)
    torch.set_num_threads(args.num_threads)
    model = load(args.model_name_or_path, args.dtype, device)
    folder.mkdir(parents=True, exist_ok=True)  # now, and not after hours of inference

    inputs = (librispeech.model_input(dataset, index, extractor, args.gears) for index in range(len(dataset.ids)))
    utterances, transcripts, latencies = {}, {}, []
    progress = tqdm(infer(model, inputs, synchronize), total=len(dataset.ids), unit="utterance", disable=None)
    for index, (num_samples, logits, latency) in enumerate(progress):
        key = str(index)
        utterances[key] = manifest.Utterance(key, dataset.ids[index], num_samples, dataset.texts[index])
        transcripts[key] = ctc.greedy_decode(logits, symbols, dataset.ids[index])
        latencies.append(latency)

    scoring.report(args.pred_res_save_path, utterances, transcripts, SCRIPT, conditions(args, device, warm_up))
    lengths_s = [utterance.num_samples / audio.SAMPLE_RATE for utterance in utterances.values()]
    figures = summarise(latencies, warm_up, lengths_s)
    tensors.write_text(folder / INFER_TIME_NAME, format_figures(figures))
    print(f"{args.dtype} on {device}\n{format_figures(figures)}", end="")
    return 0


if __name__ == "__main__":
    cli.run(main)
