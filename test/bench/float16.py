#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What float16 changes in the answers, simulated on a CPU: atc compiles to float16 unless told otherwise.

The model computes in float32, and each result is rounded to float16, as are weights and inputs. Results are those of
PyTorch's operators, where a LayerNorm, GroupNorm or GELU is one operator, or those of the nodes of the exported graph,
where a LayerNorm is nine nodes. The former resembles a device with fused operators, the latter one without. PyTorch's
own float16, which is slow on a CPU, is the peer: on the data set, and on the shortest gear at base size.

The plain and the masked model infer the data set, padded to gears, and at base size, with random weights, noise that
ends 5,000 samples before its gear. Each answer is compared with the answer in float32 to the same padded input, on the
frames of the utterance. Prints two tables; writes them to float16.md.

    python test/bench/float16.py --model_name_or_path=test/demo/model --dataset_path=test/demo/LibriSpeech \\
        --which_dataset=clean --work_dir=/tmp/bench
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from common import conditions, make_model, new_parser
from onnx import TensorProto, helper, numpy_helper
from peers import gear_input, noise
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from wav2vec2_eval import cli
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.export.graph import exported_module, fold_weight_norm, write_graph
from wav2vec2_eval.export.proof import relative_error
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.sources import model_folder
from wav2vec2_eval.sources.base import Dataset
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_input import Preparation, model_inputs
from wav2vec2_eval.sources.pytorch_model import load_model
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.ctc import greedy_decode
from wav2vec2_eval.speech.padding import GEAR_STEP, GEARS
from wav2vec2_eval.speech.wer import total, word_errors

MODELS = {"plain": False, "masked": True}  # name -> whether it has an attention mask
FLOAT32 = "float32"
OPERATORS = "each operator of PyTorch"
NODES = "each node of the ONNX graph"
PEER = "PyTorch's own float16"
COST_TITLES = ("largest error", "mean error", "other symbols", "infinite or NaN")
PADDING = GEAR_STEP // 2  # samples after the noise; the mean of many utterances

Arrays = Sequence[np.ndarray]  # (1, T) float32 each: a waveform, and its mask if the model has a mask
Infer = Callable[[Arrays], np.ndarray]  # -> (F, V) float32 logits


class RoundToFloat16(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch has no types here
    """Inside this context, the result of every operator of PyTorch has values of float16. Its type stays float32.

    Values beyond 65504 become infinite. An operator is rounded once, at its end.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:  # the values of a view are rounded already
            tree_map_only(torch.Tensor, _round_in_place, result)
        return result


def _round_in_place(tensor: torch.Tensor) -> None:
    """In place, because the result of an operator like `add_` is its input."""
    if tensor.is_floating_point():
        tensor.copy_(tensor.half())


def round_graph(model: onnx.ModelProto, to: int = TensorProto.FLOAT16) -> None:
    """Round the weights of an ONNX model, and the float32 results of its nodes by two Casts after each node.

    `to`: FLOAT16, or BFLOAT16, which needs a graph of opset 13.
    """
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(_rounded(numpy_helper.to_array(weight), to), weight.name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if types[name] == TensorProto.FLOAT:
                exact, half = f"{name}.exact", f"{name}.half"
                node.output[position] = exact
                nodes.append(helper.make_node("Cast", [exact], [half], to=to))
                nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]


def _rounded(array: np.ndarray, to: int = TensorProto.FLOAT16) -> np.ndarray:
    with np.errstate(over="ignore"):  # a value beyond 65504 becomes infinite
        return array.astype(helper.tensor_dtype_to_np_dtype(to)).astype(np.float32)


def infer(module: torch.nn.Module, inputs: Arrays) -> np.ndarray:
    """(F, V) float32 logits of one utterance, computed in the type of the module's weights."""
    dtype = next(module.parameters()).dtype
    with torch.no_grad():
        logits: np.ndarray = module(*(torch.from_numpy(each).to(dtype) for each in inputs))[0].float().numpy()
    return logits


def infer_rounded(rounded: torch.nn.Module, inputs: Arrays) -> np.ndarray:
    """As `infer`, with each operator's result rounded. The weights are rounded already."""
    with RoundToFloat16():  # type: ignore[no-untyped-call]
        return infer(rounded, [_rounded(each) for each in inputs])


@contextmanager
def ways(model: PreTrainedModel, masked: bool, path: Path) -> Iterator[dict[str, Infer]]:
    """FLOAT32, and every way to compute in float16. The exported graph is written to `path`."""
    module = exported_module(model, masked).eval()
    half = copy.deepcopy(module).half()
    rounded = copy.deepcopy(half).float()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(model, path, masked)
    graph = onnx.load(path)
    round_graph(graph)
    onnx.save(graph, path)
    del graph
    with open_engine(path, num_threads=default_threads(), engine="onnxruntime") as engine:

        def infer_nodes(inputs: Arrays) -> np.ndarray:
            (result,) = engine.stream([[_rounded(each) for each in inputs]])
            logits: np.ndarray = result.outputs[0][0]
            return logits

        yield {
            FLOAT32: lambda inputs: infer(module, inputs),
            OPERATORS: lambda inputs: infer_rounded(rounded, inputs),
            NODES: infer_nodes,
            PEER: lambda inputs: infer(half, inputs),
        }


class Cost(NamedTuple):
    """What float16 changes in one utterance, or in several."""

    largest_error: float  # relative to the utterance's largest logit
    mean_error: float  # relative to the same
    changed: int  # frames in which another symbol has the largest logit
    frames: int
    not_finite: int  # logits that are infinite or NaN, those of the padding included


def cost(actual: np.ndarray, expected: np.ndarray, frames: int) -> Cost:
    """Compare (F, V) logits in float16 and in float32 on the first `frames` frames, which are the utterance's."""
    not_finite = int((~np.isfinite(actual)).sum())
    actual, expected = actual[:frames], expected[:frames]
    mean = abs(actual - expected).mean() / abs(expected).max()
    changed = int((actual.argmax(-1) != expected.argmax(-1)).sum())
    return Cost(relative_error(actual, expected), float(mean), changed, frames, not_finite)


def total_cost(costs: Sequence[Cost]) -> Cost:
    """The cost of several utterances. Every frame counts equally in the mean error."""
    frames = sum(each.frames for each in costs)
    return Cost(
        float(np.max([each.largest_error for each in costs])),  # NaN if any is NaN
        sum(each.mean_error * each.frames for each in costs) / frames,
        sum(each.changed for each in costs),
        frames,
        sum(each.not_finite for each in costs),
    )


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def title(text: Sequence[str], figures: Sequence[str]) -> Iterator[str]:
    """The first two lines of a Markdown table: columns of text, then columns of figures."""
    yield line([*text, *figures])
    yield line(["---"] * len(text) + ["---:"] * len(figures))


def cells(found: Cost) -> list[str]:
    """The cells under COST_TITLES."""
    errors = [f"{found.largest_error:.1e}", f"{found.mean_error:.1e}"]
    return [*errors, f"{found.changed} of {found.frames}", str(found.not_finite)]


def bench_gears(folder: Path, count: int, work: Path, show: Callable[[str], None]) -> Iterator[str]:
    """Show the figures of each gear at base size; yields the lines of all gears for the summary."""
    gears = [GEARS[round(index)] for index in np.linspace(0, len(GEARS) - 1, count)]
    model = load(str(folder))
    different: set[int] = set()
    for each in title(("model", "rounded"), ("gear", *COST_TITLES)):
        show(each)
    for name, masked in MODELS.items():
        costs: dict[str, list[Cost]] = {OPERATORS: [], NODES: []}
        with ways(model, masked, work / f"float16-{name}.onnx") as infer_by:
            for gear, waveform in zip(gears, noise([gear - PADDING for gear in gears])):
                inputs, frames = gear_input(waveform)[: 1 + masked], frame_count(len(waveform))
                expected = infer_by[FLOAT32](inputs)
                different.update(expected[:frames].argmax(-1).tolist())
                for way in (*costs, PEER) if gear == gears[0] else costs:
                    found = cost(infer_by[way](inputs), expected, frames)
                    costs.get(way, []).append(found)
                    show(line([name, way, str(gear), *cells(found)]))
        for way, each_cost in costs.items():
            yield line(["random, base size", name, way, *cells(total_cost(each_cost)), "", ""])
    show(f"\n{len(different)} different symbols have the largest logit of a frame in float32")


def bench_corpus(name: str, dataset: Dataset, work: Path) -> Iterator[str]:
    """The lines of a model and its data set for the summary."""
    symbols, extractor = model_folder.symbols(name), model_folder.feature_extractor(name)
    how, references = Preparation(extractor), [text or "" for text in dataset.texts]
    waveforms = [item.samples[0] for index in range(len(dataset)) for item in model_inputs(dataset, index, how)]
    frames = [frame_count(len(waveform)) for waveform in waveforms]
    model = load(name)

    def wer(answers: Sequence[np.ndarray]) -> str:
        if not all(np.isfinite(logits).all() for logits in answers):
            return "none"
        texts = [greedy_decode(logits, symbols) for logits in answers]
        return f"{100 * total(word_errors(references, texts)).wer:.2f} %"

    for variant, masked in MODELS.items():
        with ways(model, masked, work / f"float16-corpus-{variant}.onnx") as infer_by:
            answers = {
                way: [infer_way(gear_input(waveform)[: 1 + masked]) for waveform in waveforms]
                for way, infer_way in infer_by.items()
            }
        expected = answers.pop(FLOAT32)
        for way, actual in answers.items():
            found = total_cost([cost(*each) for each in zip(actual, expected, frames)])
            yield line([name, variant, way, *cells(found), wer(actual), wer(expected)])


def load(name: str) -> PreTrainedModel:
    """The model as export_onnx.py traces it."""
    model = load_model(name, attention="eager")
    fold_weight_norm(model)
    return model


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--count",
        type=cli.integer(1, len(GEARS)),
        default=8,
        metavar="N",
        help=f"gears at base size, evenly spaced among the default {len(GEARS)}",
    )
    cli.add_dataset_options(parser)
    cli.add_model_option(parser)
    args = parser.parse_args(argv)
    work: Path = args.work_dir
    dataset = open_dataset(args.which_dataset, args.dataset_path, args.limit)
    lines: list[str] = []

    def show(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    for each in conditions("torch", "transformers", "onnxruntime"):
        show(each)
    source = args.dataset_path or "the hub"
    show(f"{args.model_name_or_path}; {args.which_dataset} from {source}: {len(dataset)} utterances")
    show(f"base-size model with random weights: noise in {args.count} of the {len(GEARS)} gears")
    show("errors are relative to the largest logit of an utterance\n")
    summary = list(bench_gears(make_model(work / "model"), args.count, work, show))
    show("")
    for each in title(("weights", "model", "rounded"), (*COST_TITLES, "WER", "WER in float32")):
        show(each)
    for each in chain(summary, bench_corpus(args.model_name_or_path, dataset, work)):
        show(each)
    (work / "float16.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {work / 'float16.md'}")
    return 0


if __name__ == "__main__":
    cli.run(main)
