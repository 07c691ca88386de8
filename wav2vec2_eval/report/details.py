# SPDX-License-Identifier: Apache-2.0
"""What the pictures and lists of the page show of a folder: pure functions, and the latencies that are read for them.

All that they return can be written as JSON.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..files.journal import read_journal
from ..files.manifest import Manifest, check_same_keys
from ..files.names import JOURNAL_NAME, MANIFEST_NAME, UTTERANCES_NAME
from ..speech import wer
from ..speech.audio import SAMPLE_RATE
from ..speech.bootstrap import wer_interval
from ..speech.totals import HIGH, LOW
from .results import Results
from .utterances import Judged, Utterances

MOST_POINTS = 1500  # of the picture of latencies
NUM_BINS = 30  # of the histogram
MOST_SPEAKERS = 40
_MOST_LENGTHS = 10  # bars of the picture by length
_WIDTHS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_REPLICATES = 1000  # for each bar; the WER of all has its own, finer interval
_SHARES = {"computing (s)": "total pure infer time(ms)"} | {
    f"{what} (s)": f"{what}(ms)" for what in ("waiting for inputs", "waiting for writing", "reading", "writing")
}


class Latencies(NamedTuple):
    """Of each model input after the warm-up: M of them."""

    seconds: np.ndarray  # (M,) of speech in it, without padding
    ms: np.ndarray  # (M,)
    gears_s: list[float]  # the lengths to which they were padded, ascending; empty: they were not, or it is not known


def details(results: Results, utterances: Utterances, speakers: Sequence[int] = ()) -> dict[str, Any]:
    """Everything about one folder that is not in the table; the WER of these speakers, and of no others."""
    latencies = read_latencies(results, utterances)
    has_length = utterances.num_samples >= 0
    seconds = utterances.num_samples / SAMPLE_RATE
    found: dict[str, Any] = {
        "WER by length": wer_by_length(
            seconds[has_length], utterances.judged_errors[has_length], utterances.judged_words[has_length]
        ),
        "WER by speaker": wer_by_speaker(utterances, speakers),
        "latency by length": _latency_by_length(results, latencies),
        "latency histogram": None if latencies is None else histogram(latencies.ms),
        "time": time_shares(results.times),
        "confusions": [
            {"reference": each.reference, "hypothesis": each.hypothesis, "count": each.number}
            for each in utterances.confusions
        ],
        "worst": [worst(judged) for judged in utterances.worst],
    }
    return {name: value for name, value in found.items() if value}


def wer_by_length(seconds: np.ndarray, errors: np.ndarray, words: np.ndarray) -> list[dict[str, Any]]:
    """The WER of the utterances of similar lengths, with its 95 % interval; lengths that none has are left out."""
    scored = words >= 0
    seconds, errors, words = seconds[scored], errors[scored], words[scored]
    if not len(seconds):
        return []
    longest = float(seconds.max())
    width = next((each for each in _WIDTHS_S if longest <= each * _MOST_LENGTHS), longest / _MOST_LENGTHS)
    bars = np.floor(seconds / width).astype(np.int64)
    return [
        {
            "from (s)": float(bar * width),
            "to (s)": float((bar + 1) * width),
            **_rate(errors[bars == bar], words[bars == bar], with_interval=True),
        }
        for bar in np.unique(bars)
    ]


def worst_speakers(utterances: Utterances | None) -> list[int]:
    """The speakers with the highest WER, that one first; none if the speakers are not known."""
    if utterances is None or utterances.speakers is None:
        return []
    scored = utterances.judged_words >= 0
    names, places = np.unique(utterances.speakers[scored], return_inverse=True)
    errors, words = (
        np.bincount(places, each[scored], len(names)) for each in (utterances.judged_errors, utterances.judged_words)
    )
    rates = [wer.rate(*each) for each in zip(errors, words)]
    return [int(name) for _, name in sorted(zip(rates, names), key=lambda each: (-each[0], each[1]))[:MOST_SPEAKERS]]


def wer_by_speaker(utterances: Utterances, speakers: Sequence[int]) -> list[dict[str, Any]]:
    """The WER of each of these speakers."""
    if utterances.speakers is None:
        return []
    found = []
    for speaker in speakers:
        own = (utterances.speakers == speaker) & (utterances.judged_words >= 0)
        found.append({"speaker": str(speaker), **_rate(utterances.judged_errors[own], utterances.judged_words[own])})
    return found


def _rate(errors: np.ndarray, words: np.ndarray, with_interval: bool = False) -> dict[str, Any]:
    num_errors, num_words = int(errors.sum()), int(words.sum())
    found: dict[str, Any] = {"utterances": len(errors), "words": num_words, "errors": num_errors}
    found["WER"] = finite(wer.rate(num_errors, num_words))
    if with_interval and num_words:
        interval = wer_interval(count(errors, words), _REPLICATES)
        found |= {} if interval is None else {LOW: interval.low, HIGH: interval.high}
    return found


def count(first: np.ndarray, second: np.ndarray) -> Counter[tuple[int, int]]:
    """How often each pair of these int64 numbers is there; those of `second` are below 2**31, and not negative."""
    pairs, counts = np.unique(first << 31 | second, return_counts=True)
    return Counter({(int(pair) >> 31, int(pair) & (1 << 31) - 1): int(number) for pair, number in zip(pairs, counts)})


def read_latencies(results: Results, utterances: Utterances) -> Latencies | None:
    """The latencies of a folder: those in the journal, or else the times of the utterances; None if both are unknown.

    Raises SuiteError if a file is damaged.
    """
    warm_up = results.run.warm_up or 0
    known = (utterances.num_samples >= 0) & (utterances.pure_s >= 0)
    if results.source.has(JOURNAL_NAME) and results.source.has(UTTERANCES_NAME):
        found = _in_journal(results, utterances)
    elif known.any() and not results.is_chunked:
        found = Latencies(utterances.num_samples[known] / SAMPLE_RATE, 1000 * utterances.pure_s[known], [])
    else:
        return None
    return found._replace(seconds=found.seconds[warm_up:], ms=found.ms[warm_up:]) if len(found.ms) > warm_up else None


def _in_journal(results: Results, utterances: Utterances) -> Latencies:
    """The latencies in the journal, in the order of the manifest."""
    journal = read_journal(results.source)
    manifest = Manifest(results.source.folder / MANIFEST_NAME, results.source)
    references = manifest.references()
    assert references is not None  # the caller has looked
    check_same_keys(manifest, journal, f"{results.source.folder}: results")
    samples, latencies = array("q"), array("d")
    lengths = set()
    lengths_known = not results.is_chunked and references.has_keys_of(manifest) and len(utterances) == len(manifest)
    all_samples = utterances.num_samples if lengths_known else manifest.parts.new_samples(manifest, references)
    for (key, entries), new_samples in zip(manifest.rows(), all_samples):
        latency = journal[key].latency
        samples.append(new_samples)
        latencies.append(latency.pure_ms if latency.elapsed_ms is None else latency.elapsed_ms)
        lengths.add(entries[0].shape[-1])
    gears_s = [length / SAMPLE_RATE for length in sorted(lengths)] if results.run.of_data.padded else []
    return Latencies(np.array(samples, np.int64) / SAMPLE_RATE, np.array(latencies, np.float64), gears_s)


def _latency_by_length(results: Results, latencies: Latencies | None) -> dict[str, Any]:
    """Some of the latencies with the lengths, drawn evenly over the lengths, and the gears that were used."""
    if latencies is None:
        return {}
    order = np.argsort(latencies.seconds, kind="stable")
    if len(order) > MOST_POINTS:
        order = order[np.linspace(0, len(order) - 1, MOST_POINTS).round().astype(np.int64)]
    return {
        "latency of": "a chunk" if results.is_chunked else "an utterance",
        "of": len(latencies.ms),
        **({"gears (s)": latencies.gears_s} if latencies.gears_s else {}),
        "points": [[round(float(latencies.seconds[at]), 4), round(float(latencies.ms[at]), 4)] for at in order],
    }


def histogram(values: np.ndarray) -> dict[str, list[float]]:
    """How many values are in each of some ranges of equal ratios: a long tail then takes no more room than the rest."""
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low, high, NUM_BINS + 1) if 0 < low < high else np.linspace(low, high + 1, NUM_BINS + 1)
    edges[0], edges[-1] = min(low, edges[0]), max(high, edges[-1])  # rounding may have moved them
    counts, _ = np.histogram(values, edges)
    return {"edges (ms)": [float(edge) for edge in edges], "counts": [int(number) for number in counts]}


def time_shares(times: Mapping[str, float]) -> dict[str, float]:
    """Where the seconds of a run went; nothing if its wall time is not known."""
    if "average infer time(ms)" not in times:
        return {}
    wall_s = times["average infer time(ms)"] * times["total infer num"] / 1000
    return {"wall (s)": wall_s, **{name: times[label] / 1000 for name, label in _SHARES.items() if label in times}}


def finite(rate: float) -> float | None:
    """JSON has no infinity."""
    return rate if math.isfinite(rate) else None


def worst(judged: Judged) -> dict[str, Any]:
    """An utterance with its edits, words as texts."""
    edits = [[edit.kind, " ".join(edit.reference), " ".join(edit.hypothesis)] for edit in judged.edits]
    return {
        "id": judged.row.utterance_id,
        "seconds": None if judged.row.num_samples is None else judged.row.num_samples / SAMPLE_RATE,
        "reference": " ".join(word for edit in judged.edits for word in edit.reference),
        "hypothesis": " ".join(word for edit in judged.edits for word in edit.hypothesis),
        "errors": judged.errors,
        "words": judged.words,
        "WER": finite(judged.wer),
        "edits": edits,
    }
