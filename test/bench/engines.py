#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the suite's CPU engine is beside PyTorch.

pyacl_infer.py and pth_online_infer.py take the same utterances, unpadded and one at a time, in turn for several rounds.
Each in its own process: side by side in one, the idle threads of either would keep the other from a core. Utterances
and the base-size model with random weights are those of chain.py.

    python test/bench/engines.py --work_dir=/tmp/bench --count=30
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median

from chain import make_model, make_tree, script  # first: it puts the suite on the path

from wav2vec2_eval import cli
from wav2vec2_eval.timing import AVERAGE, INFER_TIME_NAME, parse_figures

NAMES = ("suite", "PyTorch")


def main() -> int:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--work_dir", type=Path, required=True, help="where data and results are written, and kept")
    parser.add_argument("--count", type=cli.integer(2), default=30, metavar="N", help="utterances")
    parser.add_argument("--rounds", type=cli.integer(1), default=5, metavar="N", help="times that each is measured")
    args = parser.parse_args()
    cwd: Path = args.work_dir
    cwd.mkdir(parents=True, exist_ok=True)

    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "torch", "transformers"))
    print(f"{cli.cpu_name()}, {cli.default_threads()} threads, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {packages}, float32")
    model = f"--model_name_or_path={make_model(cwd / 'model')}"
    data = ("--which_dataset=clean", f"--dataset_path={make_tree(cwd / 'LibriSpeech')}", f"--limit={args.count}", model)
    script("preprocess.py", "--pre_data_save_path=./unpadded", "--gears=none", *data, cwd=cwd)
    script("export_onnx.py", "--model_save_dir=./models", model, cwd=cwd)
    suite = (
        "pyacl_infer.py",
        "--model_path=./models/wav2vec2-base-960h.onnx",
        "--input_info_file_path=./unpadded/bin_file.info",
        "--infer_res_save_path=./engines_suite",
        "--workspace=1",
    )
    pytorch = ("pth_online_infer.py", "--pred_res_save_path=./engines_pytorch/transcriptions.txt", *data)

    rounds: list[list[dict[str, float]]] = []
    for _ in range(args.rounds):
        rounds.append([])
        for command, folder in ((suite, "engines_suite"), (pytorch, "engines_pytorch")):
            script(*command, cwd=cwd)
            rounds[-1].append(parse_figures((cwd / folder / INFER_TIME_NAME).read_text()))
    print(
        f"{args.count} utterances, {rounds[0][1]['total audio(s)']:.0f} s of audio, medians of {args.rounds} rounds\n"
    )
    for name, figures in zip(NAMES, zip(*rounds)):
        latencies = [each[AVERAGE] for each in figures]
        spread = ", ".join(f"{latency:.0f}" for latency in latencies)
        rtfx = median(each["RTFx"] for each in figures)
        print(f"{name:8s} average latency {median(latencies):6.1f} ms ({spread}), RTFx {rtfx:.1f}")
    ratios = [ours[AVERAGE] / theirs[AVERAGE] for ours, theirs in rounds]
    print(f"ratio    {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return 0


if __name__ == "__main__":
    cli.run(lambda _argv: main())
