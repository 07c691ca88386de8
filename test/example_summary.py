# SPDX-License-Identifier: Apache-2.0
"""A summary.json like the demo's, with any number of runs, for the tests of the report's page and pictures."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import soundfile

RUNS = ("PyTorch float32", "onnxruntime float32", "OpenVINO int8")
GEARS_S = (0.625, 1.25, 1.875, 2.5, 3.75, 5.0, 7.5, 10.0)
WORDS = "the of and little boy found my letter upon garden window she would never have believed another".upper().split()


def example_summary(num_runs: int = 3, num_points: int = 52, scored: bool = True) -> dict[str, Any]:
    """The first run is the reference. More than three runs have titles of their own."""
    generator = random.Random(7)
    titles = [*RUNS, *(f"Ascend310P3 variant {number}" for number in range(3, num_runs))][:num_runs]
    figures = {title: _figures(place, scored) for place, title in enumerate(titles)}
    summary: dict[str, Any] = {
        "data set": "clean",
        "figures": figures,
        "conditions": {title: _conditions(title, place) for place, title in enumerate(titles)},
        "made on": {
            "host": "x86_64, 2 cores",
            "versions": "Python 3.11.9, numpy 2.4.6, torch 2.13.0",
            "suite": "1a2b3c",
        },
        "details": {title: _details(generator, place, num_points, scored) for place, title in enumerate(titles)},
    }
    if num_runs > 1:
        reference, *others = titles
        summary["reference"] = reference
        summary["differing conditions"] = ["engine", "precision", "model"]
        summary["ratios"] = {
            title: {
                label: value / figures[reference][label]
                for label, value in figures[title].items()
                if "95%" not in label and label not in ("words", "utterances")
            }
            for title in others
        }
    if num_runs > 1 and scored:
        compared = ((0.0, -0.0038, 0.0041, 0.5), (0.0133, 0.0021, 0.0262, 0.012))
        names = ("WER difference", "WER difference 95% low", "WER difference 95% high", "probability of improvement")
        summary["comparisons"] = {title: dict(zip(names, compared[at % 2])) for at, title in enumerate(others)}
    return summary


def recording(seconds: float, seed: int = 1) -> bytes:
    """Quiet noise as FLAC."""
    file = io.BytesIO()
    samples = 0.004 * np.random.default_rng(seed).standard_normal(int(16000 * seconds))
    soundfile.write(file, samples, 16000, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _figures(place: int, scored: bool) -> dict[str, Any]:
    errors = (21, 21, 28)[place % 3]
    scores = {
        "WER": errors / 526,
        "WER 95% low": errors / 526 - 0.0157,
        "WER 95% high": errors / 526 + 0.0182,
        "CER": 0.012893 + 0.004 * (place % 3 == 2),
        "substitutions": errors - 9,
        "deletions": 3,
        "insertions": 6,
        "words": 526,
    }
    speed = (1.0, 0.8213, 0.4127)[place % 3] * (1 + place // 3)
    speeds = {
        "utterances": 52,
        "time per utterance (ms)": 48.72251 * speed,
        "p50 latency (ms)": 37.45123 * speed,
        "p90 latency (ms)": 99.13377 * speed,
        "p99 latency (ms)": 147.52911 * speed,
        "utterances/s per card": 20.52439 / speed,
        "RTFx": 97.53127 / speed,
        "wall RTFx": 71.91818 / speed,
    }
    return {**(scores if scored else {}), **speeds}


def _conditions(title: str, place: int) -> dict[str, Any]:
    engine, _, precision = title.partition(" ")
    return {
        "data set": "clean, from test/demo/LibriSpeech, padded to gears with attention mask",
        "model": f"models/demo-{place}.onnx",
        "engine": engine,
        "device": "x86_64, 2 cores",
        "precision": precision,
        "threads": 2,
        "warm-up": 5,
        "text normalization": "english",
    }


def _details(generator: random.Random, place: int, num_points: int, scored: bool) -> dict[str, Any]:
    speed = (1.0, 0.82, 0.41)[place % 3]
    padded = place % 3 != 0
    points = []
    for _ in range(num_points):
        length = round(min(9.9, generator.lognormvariate(1.1, 0.6)), 4)
        computed = next(gear for gear in GEARS_S if gear >= length) if padded else length
        points.append([length, round(speed * (3 + 13.5 * computed) * generator.uniform(0.96, 1.12), 4)])
    points.sort()
    latencies = [latency for _, latency in points]
    edges = np.geomspace(min(latencies), max(latencies), 25)
    edges[0], edges[-1] = min(latencies), max(latencies)
    wall = 6.2 * speed
    scores = {
        "WER by length": [_bin(low, generator) for low in range(0, 10, 2)],
        "WER by speaker": [
            {"speaker": str(9001 + at), "utterances": 13, "words": 130, "errors": 12 - 3 * at + place % 2,
             "WER": (12 - 3 * at + place % 2) / 130}
            for at in range(4)
        ],
        "confusions": [
            {"reference": reference, "hypothesis": hypothesis, "count": count}
            for reference, hypothesis, count in (
                ("THE", "A", 4), ("AND", "", 2), ("", "A", 2), ("LETTER", "LATER", 1), ("WINDOW", "WIDOW", 1),
                ("BELIEVED", "BELIEVE", 1),
            )
        ],
        "worst": [_worst(generator, number) for number in range(10)],
    }  # fmt: skip
    return {
        **(scores if scored else {}),
        "latency by length": {
            "latency of": "an utterance",
            "of": num_points,
            **({"gears (s)": list(GEARS_S)} if padded else {}),
            "points": points,
        },
        "latency histogram": {
            "edges (ms)": [float(edge) for edge in edges],
            "counts": [int(count) for count in np.histogram(latencies, edges)[0]],
        },
        "time": {
            "wall (s)": wall,
            "computing (s)": 0.74 * wall,
            **({"waiting for inputs (s)": 0.11 * wall, "waiting for writing (s)": 0.04 * wall} if padded else {}),
            **({"reading (s)": 0.6 * wall, "writing (s)": 0.2 * wall} if padded else {}),
        },
    }


def _bin(low: float, generator: random.Random) -> dict[str, Any]:
    words = generator.randint(60, 150)
    errors = generator.randint(1, 9)
    rate = errors / words
    return {
        "from (s)": low,
        "to (s)": low + 2,
        "utterances": words // 8,
        "words": words,
        "errors": errors,
        "WER": rate,
        "WER 95% low": 0.4 * rate,
        "WER 95% high": 1.9 * rate,
    }


def _worst(generator: random.Random, number: int) -> dict[str, Any]:
    said = [generator.choice(WORDS) for _ in range(12)]
    edits = [
        ["equal", " ".join(said[:4]), " ".join(said[:4])],
        ["substitute", said[4], "LATER"],
        ["equal", " ".join(said[5:8]), " ".join(said[5:8])],
        ["insert", "", "ON"],
        ["equal", " ".join(said[8:11]), " ".join(said[8:11])],
        ["delete", said[11], ""],
    ]
    return {
        "id": f"9001-{120 + number}-{number:04d}",
        "seconds": 4.25 + number,
        "reference": " ".join(said),
        "hypothesis": " ".join(hypothesis for _, _, hypothesis in edits if hypothesis),
        "errors": 3,
        "words": 12,
        "WER": 3 / 12,
        "edits": edits,
    }
