#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The baseline: the same utterances through PyTorch, scored and timed in the same way.

Utterances go through the model one at a time, unpadded unless --gears says otherwise. Writes transcriptions.txt, with
the scores (wer.txt, utterance_scores.tsv and others), infer_time.txt and run.json (the conditions) beside it.

    python pth_online_infer.py --which_dataset=clean \\
        --pred_res_save_path=./pth_online_infer_res/clean/transcriptions.txt
"""

from __future__ import annotations

# First, because the package takes over signals and imports nothing from the current folder.
from wav2vec2_eval import cli

# isort: split

import argparse
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wav2vec2_eval.engines.precision import PRECISIONS, PYTORCH_PRECISIONS, parse_precision
from wav2vec2_eval.machine.progress import track
from wav2vec2_eval.machine.terminal import say

if TYPE_CHECKING:
    import numpy as np

    from wav2vec2_eval.engines.base import Engine
    from wav2vec2_eval.files.data_folder import Skipped
    from wav2vec2_eval.files.scored import Transcript
    from wav2vec2_eval.sources.base import Dataset
    from wav2vec2_eval.sources.model_input import Preparation
    from wav2vec2_eval.speech.ctc import Symbols
    from wav2vec2_eval.speech.latency import Latency

SCRIPT = Path(__file__).name


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    option = parser.add_argument
    option("--pred_res_save_path", required=True, type=cli.path, metavar="FILE", help="transcriptions to write")
    cli.add_dataset_options(parser)
    cli.add_recording_options(parser)
    option(
        "--skip_listed",
        type=cli.path,
        metavar="FILE",
        help="leave out the utterances that this skipped.tsv of preprocess.py lists",
    )
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
    cli.add_scoring_options(parser)
    cli.add_quiet_option(parser)
    return parser.parse_args(argv)


class Job(NamedTuple):
    """What to infer, and how."""

    dataset: Dataset
    how: Preparation
    symbols: Symbols
    skip_unusable: bool
    listed: Mapping[str, Skipped]  # to be left out, by their ids
    word_times: bool
    reads_ahead: bool


class Inferred(NamedTuple):
    """All utterances through the model, in data set order."""

    transcripts: list[Transcript]
    latencies: list[Latency]  # of each model input: a long recording has several
    lengths_s: list[float]  # seconds of audio that each of them adds
    skipped: dict[str, Skipped]  # by their keys


def infer_all(engine: Engine, job: Job) -> Inferred:
    """Infer and decode the utterances, and show the progress."""
    from wav2vec2_eval.engines.clock import timed
    from wav2vec2_eval.errors import SuiteError, Unusable
    from wav2vec2_eval.files.data_folder import Skipped
    from wav2vec2_eval.files.scored import transcribe
    from wav2vec2_eval.files.utterances import new_utterance
    from wav2vec2_eval.machine.overlap import read_ahead
    from wav2vec2_eval.sources.model_input import model_inputs
    from wav2vec2_eval.speech.audio import SAMPLE_RATE
    from wav2vec2_eval.speech.chunks import join, plan

    dataset, how = job.dataset, job.how
    found = Inferred([], [], [], {})
    ends: list[tuple[int, int]] = []  # of the model inputs that were read so far: utterance, and sample in it

    def inputs() -> Generator[list[np.ndarray], None, None]:
        for index in range(len(dataset)):
            if dataset.ids[index] in job.listed:
                found.skipped[str(index)] = job.listed[dataset.ids[index]]._replace(key=str(index))
                continue
            try:
                for item in model_inputs(dataset, index, how):
                    ends.append((index, item.start + item.num_samples))
                    yield [item.samples]
            except Unusable as error:
                if not job.skip_unusable:
                    raise error.with_remedy() from None
                found.skipped[str(index)] = Skipped(str(index), dataset.ids[index], str(error))

    ready = read_ahead(inputs()) if job.reads_ahead else inputs()

    def transcripts() -> Generator[Transcript, None, None]:
        with closing(ready), closing(engine.stream(ready)) as results_in_order:
            numbered = enumerate(timed(results_in_order))
            for index, group in groupby(numbered, lambda item: ends[item[0]][0]):
                positions, results = zip(*group)
                key, utterance_id = str(index), dataset.ids[index]
                if key in found.skipped:  # damaged after some of its chunks
                    continue
                num_samples = ends[positions[-1]][1]
                chunks = plan(num_samples, how.chunking)
                logits = join(chunks, [result.outputs[0][0] for result, _ in results])
                utterance = new_utterance(key, utterance_id, num_samples, dataset.texts[index])
                transcript = transcribe(utterance, logits, job.symbols, utterance_id, job.word_times)
                latencies = [latency for _, latency in results]
                found.latencies.extend(latencies)
                found.lengths_s.extend(chunk.new_samples / SAMPLE_RATE for chunk in chunks)
                yield transcript._replace(pure_s=sum(each.pure_ms for each in latencies) / 1000)

    with closing(transcripts()) as inferred:
        found.transcripts.extend(track(inferred, len(dataset), lambda each: each.utterance.num_samples / SAMPLE_RATE))
    if not found.transcripts:
        first = next(iter(found.skipped.values()))
        raise SuiteError(f"none of the {len(dataset)} utterances can be used; first: {first.reason}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from wav2vec2_eval.engines.pytorch import PytorchEngine, open_device
    from wav2vec2_eval.files.data_folder import read_skipped, write_skipped
    from wav2vec2_eval.files.names import CTM_NAME, INFER_TIME_NAME, SKIPPED_NAME
    from wav2vec2_eval.files.run import Run
    from wav2vec2_eval.files.scores import scores_folder, write_scores
    from wav2vec2_eval.sources import model_folder
    from wav2vec2_eval.sources.choose import check_paths, open_dataset
    from wav2vec2_eval.sources.model_input import Preparation
    from wav2vec2_eval.sources.pytorch_model import load_model
    from wav2vec2_eval.sources.recording_table import Columns
    from wav2vec2_eval.speech.chunks import plan
    from wav2vec2_eval.speech.latency import check_warm_up, format_figures, summarise
    from wav2vec2_eval.speech.readable import format_speed

    path, chunking = args.pred_res_save_path, cli.chunking(args)
    may_skip = args.skip_unusable or args.skip_listed is not None
    check_paths(args.which_dataset, args.dataset_path, args.model_name_or_path)
    others = [*((CTM_NAME,) if args.word_times else ()), *((SKIPPED_NAME,) if may_skip else ())]
    with scores_folder(path, SCRIPT, normalize_text=args.normalize_text, others=others) as folder:
        columns = Columns(args.audio_column, args.text_column)
        dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit, columns, args.skip_unusable)
        check_warm_up(args.warm_up or 0, len(dataset))
        listed = (
            {} if args.skip_listed is None else {each.utterance_id: each for each in read_skipped(args.skip_listed)}
        )
        how = Preparation(model_folder.feature_extractor(args.model_name_or_path), args.gears, chunking)
        symbols = model_folder.symbols(args.model_name_or_path, args.target_lang)
        device = open_device(args.device)
        model = load_model(args.model_name_or_path, target_lang=args.target_lang)

        with PytorchEngine(model, device, args.dtype, args.num_threads) as engine:
            say(str(engine.conditions))
            # On a CPU, reading ahead would take a core from the model.
            reads_ahead = device.synchronize is not None
            job = Job(dataset, how, symbols, args.skip_unusable, listed, args.word_times, reads_ahead)
            found = infer_all(engine, job)
        warm_up = min(1, len(found.latencies) - 1) if args.warm_up is None else args.warm_up
        figures = summarise(found.latencies, warm_up, found.lengths_s)

        data = Run(
            which_dataset=args.which_dataset,
            dataset_path=args.dataset_path,
            padded=args.gears is not None,
            chunk_samples=chunking and chunking.chunk,
            stride_samples=chunking and chunking.stride,
            chunked=sum(len(plan(each.utterance.num_samples, chunking)) > 1 for each in found.transcripts) or None,
            skipped=len(found.skipped) or None,
        )
        run = Run(SCRIPT, model=args.model_name_or_path, **engine.conditions._asdict(), warm_up=warm_up, data=data)
        outcome = write_scores(
            folder,
            path.name,
            found.transcripts,
            SCRIPT,
            inference=run,
            normalize_text=args.normalize_text,
            symbols=symbols,
            word_times=args.word_times,
        )
        write_skipped(folder, list(found.skipped.values()))
        folder.write_text(INFER_TIME_NAME, format_figures(figures))
    print(f"{outcome}, {format_speed(figures)}")
    return 0


if __name__ == "__main__":
    cli.run(main)
