# SPDX-License-Identifier: Apache-2.0
"""Make the demo from nothing: a small spoken corpus, and a small CTC model that recognises it.

espeak-ng speaks the sentences of demo_text.ini. The corpus is written to LibriSpeech/test-clean in LibriSpeech's
layout, and the model to model/ with the same files as a model on the hub. Both are stored in the repository, so the
demo runs without this script. README.md beside this file has the figures, and how the stored model was trained.

    apt-get install espeak-ng
    python make_demo.py corpus              # LibriSpeech/: 52 utterances, seconds
    python make_demo.py speech --hours=36   # cache/: the training speech, 4 GB, ten minutes on two cores
    python make_demo.py train --minutes=90  # model/: the best model so far; two cores, 0.3 s per step
    python make_demo.py score               # WER of model/ on the corpus, unpadded and padded
    python make_demo.py speak "the little boy found my letter" --speaker=9001  # one more utterance
"""

from __future__ import annotations

import argparse
import configparser
import copy
import itertools
import json
import logging
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np
import soundfile
import torch
from torch.multiprocessing.spawn import spawn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Processor

HERE = Path(__file__).resolve().parent
TEXT_PATH = HERE / "demo_text.ini"
SEED = 960
log = logging.getLogger("make_demo")

SAMPLE_RATE = 16_000  # Hz
ESPEAK_RATE = 22_050  # Hz, of espeak-ng's output
WAV_HEADER = 44  # bytes before the samples
GEAR_STEP = 10_000  # samples; deployed models take waveforms padded to a multiple of it
CHAPTERS = (9, 10)  # of every speaker; one digit and two, so that sorting them as text gives a wrong order

# base-960h's symbols in id order; <pad> is the CTC blank, | the word delimiter.
SYMBOLS = ("<pad>", "<s>", "</s>", "<unk>", *"|ETAONIHSRDLUMWCFGYPBVK'XJQZ")
BLANK = 0
HUB_FILES = {
    "vocab.json": {symbol: index for index, symbol in enumerate(SYMBOLS)},
    "special_tokens_map.json": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    },
    "tokenizer_config.json": {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "word_delimiter_token": "|",
        "do_lower_case": False,
    },
    "preprocessor_config.json": {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": True,
        "return_attention_mask": False,
    },
}

# Training text and speech.
MAX_WORDS = 36  # about 15 s
RANDOM_WORDS = 0.2  # share of utterances without grammar, so that the model learns each word without its context
SPEEDS = (120, 200)  # words per minute
PITCHES = (20, 75)  # of espeak-ng's 0 to 99
CLIPS_AT_ONCE = 500

# Training.
WORKERS = 2  # processes; two processes with one core each are faster than one process with two cores
BATCH_SECONDS = 15  # of speech in one batch of one worker
WARM_UP = 0.05  # share of the training
SPEED_FACTORS = (0.95, 1.05)  # for `distort`, as are the next two
TILTS = (-0.4, 0.4)
NOISE_RATIOS = (20, 45)  # dB, of speech to noise
PADDED_BATCHES = 0.7  # share of the batches in which the longest utterance, too, is padded with zeros
STEPS_PER_LOG = 100
STEPS_PER_VALIDATION = 1000
VALIDATION_CLIPS = 150


class Speaker(NamedTuple):
    """A voice; `accent` and `variant` are espeak-ng's names."""

    accent: str
    variant: str
    words_per_minute: int
    pitch: int  # 0 to 99
    level: float = -24.0  # root mean square, dB full scale


class DemoText(NamedTuple):
    """The content of demo_text.ini."""

    accents: list[str]
    variants: dict[str, list[str]]  # of "training" and of "validation"
    speakers: dict[int, Speaker]
    rules: dict[str, list[str]]  # upper-case name -> alternatives
    corpus: dict[int, list[str]]  # speaker -> sentences

    @property
    def vocabulary(self) -> list[str]:
        """Every word that the rules can produce."""
        words = " ".join(itertools.chain.from_iterable(self.rules.values())).split()
        return sorted(set(words) - set(self.rules))

    def is_heard(self, speaker: int) -> bool:
        """Whether the training speech has the speaker's variant."""
        return self.speakers[speaker].variant in self.variants["training"]


class Schedule(NamedTuple):
    """How `train` runs. It ends after the last step or the last minute, whichever comes first."""

    steps: int
    minutes: float
    peak_learning_rate: float
    resume: bool  # start from the stored model instead of random weights


class Clip(NamedTuple):
    """One utterance of the training or validation speech."""

    samples: np.ndarray  # (T,) int16
    sentence: str


class Utterance(NamedTuple):
    """One utterance of the corpus."""

    utterance_id: str  # speaker-chapter-number
    path: Path
    text: str  # upper case

    @property
    def speaker(self) -> int:
        return int(self.utterance_id.split("-")[0])


# Text


class CaseSensitiveParser(configparser.ConfigParser):
    """A ConfigParser that does not change the names of options to lower case."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def read_text(path: Path = TEXT_PATH) -> DemoText:
    """Read the voices, the grammar and the sentences."""
    parser = CaseSensitiveParser(delimiters=("=",), interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8"))
    voices = {name: value.split() for name, value in parser["voices"].items()}
    speakers = {}
    for name, value in parser["speakers"].items():
        accent, variant, speed, pitch, level = value.split()
        speakers[int(name)] = Speaker(accent, variant, int(speed), int(pitch), float(level))
    rules = {name: value.split() for name, value in parser["words"].items()}
    rules.update((name, value.splitlines()) for name, value in parser["phrases"].items())
    corpus = {int(name): value.splitlines() for name, value in parser["corpus"].items()}
    return DemoText(voices.pop("accents"), voices, speakers, rules, corpus)


def expand(phrase: str, rules: dict[str, list[str]], rng: random.Random) -> str:
    """Replace each name of a rule in the phrase by one of its alternatives, until only words are left."""
    return " ".join(expand(rng.choice(rules[word]), rules, rng) if word in rules else word for word in phrase.split())


def training_sentence(text: DemoText, rng: random.Random) -> str:
    """A sentence of the grammar, or a string of random words; never a sentence of the corpus."""
    corpus = set(itertools.chain.from_iterable(text.corpus.values()))
    while True:
        if rng.random() < RANDOM_WORDS:
            sentence = " ".join(rng.choices(text.vocabulary, k=rng.randint(1, 9)))
        else:
            sentence = expand("SENTENCE", text.rules, rng)
        if sentence not in corpus and len(sentence.split()) <= MAX_WORDS:
            return sentence


# Speech


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the sample rate by cutting the spectrum: (T,) -> (T * to_rate / from_rate,) float32."""
    length = len(samples) * to_rate // from_rate
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    resampled: np.ndarray = np.fft.irfft(spectrum, length) * (length / len(samples))
    return resampled.astype(np.float32)


def speak(sentence: str, speaker: Speaker) -> np.ndarray:
    """Speech of espeak-ng: (T,) float32 at 16 kHz in [-1, 1), at espeak-ng's own level, without noise."""
    command = ["espeak-ng", "-v", f"{speaker.accent}+{speaker.variant}", "-s", str(speaker.words_per_minute)]
    command += ["-p", str(speaker.pitch), "--stdout", "--", sentence]
    wav = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    # The length in the header is wrong when espeak-ng writes to a pipe, so everything after the header is read.
    samples = np.frombuffer(wav, dtype="<i2", offset=WAV_HEADER) / np.float32(32768)
    return resample(samples, ESPEAK_RATE, SAMPLE_RATE)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """(T,) float32 in [-1, 1) -> (T,) int16."""
    scaled: np.ndarray = np.clip(np.rint(samples * 32768), -32768, 32767)
    return scaled.astype(np.int16)


def record(sentence: str, speaker: Speaker, rng: np.random.Generator) -> np.ndarray:
    """Speak at the speaker's level with light noise, 30 to 40 dB below: (T,) int16 at 16 kHz."""
    samples = speak(sentence, speaker)
    samples *= 10 ** (speaker.level / 20) / samples.std()
    noise = 10 ** ((speaker.level - rng.uniform(30, 40)) / 20)
    return to_int16(samples + noise * rng.standard_normal(len(samples), dtype=np.float32))


def make_clip(text: DemoText, part: str, index: int) -> Clip:
    """Utterance number `index` of the speech for "training" or "validation"; the same in every call."""
    rng = random.Random(f"{SEED} {part} {index}")
    sentence = training_sentence(text, rng)
    accent, variant = rng.choice(text.accents), rng.choice(text.variants[part])
    speaker = Speaker(accent, variant, rng.randint(*SPEEDS), rng.randint(*PITCHES))
    return Clip(to_int16(speak(sentence, speaker)), sentence)


def make_speech(text: DemoText, part: str, hours: float, folder: Path) -> None:
    """Write at least `hours` of speech.

    {part}.i16 has the samples of all utterances in a row; {part}.tsv has a line for each utterance: the number of its
    samples, and its sentence.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    total = 0
    with (folder / f"{part}.i16").open("wb") as audio, ThreadPoolExecutor(os.cpu_count()) as pool:
        while total < hours * 3600 * SAMPLE_RATE:
            indices = range(len(lines), len(lines) + CLIPS_AT_ONCE)
            for clip in pool.map(lambda index: make_clip(text, part, index), indices):
                clip.samples.tofile(audio)
                lines.append(f"{len(clip.samples)}\t{clip.sentence}\n")
                total += len(clip.samples)
            log.info("%s: %d utterances, %.2f h", part, len(lines), total / SAMPLE_RATE / 3600)
    (folder / f"{part}.tsv").write_text("".join(lines), encoding="utf-8")


def read_speech(part: str, folder: Path) -> list[Clip]:
    """Open the files of `make_speech`; the samples stay on disk until they are used."""
    samples = np.memmap(folder / f"{part}.i16", dtype=np.int16, mode="r")
    clips, start = [], 0
    for line in (folder / f"{part}.tsv").read_text(encoding="utf-8").splitlines():
        length, sentence = line.split("\t")
        end = start + int(length)
        clips.append(Clip(samples[start:end], sentence))
        start = end
    return clips


# Corpus


def add_utterance(sentence: str, number: int, speaker: Speaker, chapter: int, tree: Path) -> Utterance:
    """Speak one sentence into a LibriSpeech tree, as the next utterance of the chapter."""
    folder = tree / str(number) / str(chapter)
    folder.mkdir(parents=True, exist_ok=True)
    transcript = folder / f"{number}-{chapter}.trans.txt"
    index = len(list(folder.glob("*.flac")))
    utterance_id = f"{number}-{chapter}-{index:04d}"
    utterance = Utterance(utterance_id, folder / f"{utterance_id}.flac", sentence.upper())
    samples = record(sentence, speaker, np.random.default_rng([SEED, number, chapter, index]))
    soundfile.write(utterance.path, samples, SAMPLE_RATE, subtype="PCM_16")
    with transcript.open("a", encoding="utf-8") as file:
        file.write(f"{utterance.utterance_id} {utterance.text}\n")
    return utterance


def make_corpus(text: DemoText, folder: Path) -> None:
    """Write test-clean and SPEAKERS.TXT to `folder`, replacing its earlier content."""
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    table = ["; SPEAKER | SUBSET | ACCENT | VARIANT | WORDS PER MINUTE | PITCH | LEVEL IN DB | IN TRAINING\n"]
    for number, speaker in text.speakers.items():
        for index, sentence in enumerate(text.corpus[number]):
            chapter = CHAPTERS[index * len(CHAPTERS) // len(text.corpus[number])]
            add_utterance(sentence, number, speaker, chapter, new / "test-clean")
        heard = "yes" if text.is_heard(number) else "no"
        table.append(" | ".join(map(str, (number, "test-clean", *speaker, heard))) + "\n")
    (new / "SPEAKERS.TXT").write_text("".join(table), encoding="utf-8")
    replace_folder(new, folder)


def read_corpus(tree: Path) -> list[Utterance]:
    """All utterances of a LibriSpeech tree, ordered by speaker, chapter and number."""
    utterances = []
    for transcript in tree.glob("*/*/*.trans.txt"):
        for line in transcript.read_text(encoding="utf-8").splitlines():
            utterance_id, _, sentence = line.partition(" ")
            utterances.append(Utterance(utterance_id, transcript.parent / f"{utterance_id}.flac", sentence))
    return sorted(utterances, key=lambda item: [int(field) for field in item.utterance_id.split("-")])


def replace_folder(new: Path, old: Path) -> None:
    """Rename the folder `new` to `old`, replacing it, so that `old` is never half written."""
    aside = old.with_name(f"{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


# Model


def model_config() -> Wav2Vec2Config:
    """A narrow base-960h of 2.1 million parameters. Its kernels and strides, and so its frames, are those of base-960h.

    The first convolutions run at 3200 and 1600 Hz and would take most of the time, so they are the narrowest.
    """
    return Wav2Vec2Config(
        vocab_size=len(SYMBOLS),
        pad_token_id=BLANK,
        conv_dim=(32, 48, 64, 96, 128, 128, 128),
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_kernel=(10, 3, 3, 3, 3, 2, 2),
        conv_bias=False,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
        num_conv_pos_embeddings=64,
        num_conv_pos_embedding_groups=16,
        # No dropout and no masking, because the speech itself is varied, and there is much of it.
        feat_proj_dropout=0.0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
    )


def save_model(model: Wav2Vec2ForCTC, folder: Path) -> None:
    """Write the files that a model on the hub has, with float16 weights that are loaded as float32."""
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # save_pretrained lets only the owner read it
    config_path = folder / "config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name, content in HUB_FILES.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class Recognizer:
    """A stored model in float32, with greedy decoding. Called with one utterance at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        processor = Wav2Vec2Processor.from_pretrained(folder, local_files_only=True)
        self.feature_extractor = processor.feature_extractor
        self.symbols = processor.tokenizer.convert_ids_to_tokens(range(len(SYMBOLS)))

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray, *, padded: bool = False) -> str:
        """(T,) float32 in [-1, 1) -> text; `padded` adds zeros up to the next multiple of GEAR_STEP."""
        features = self.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        waveform = features.input_values  # (1, T)
        if padded:
            waveform = torch.nn.functional.pad(waveform, (0, -waveform.shape[1] % GEAR_STEP))
        ids = self.model(waveform).logits[0].argmax(dim=-1).tolist()  # one for each frame
        # Repeats are merged before blanks are dropped: a blank separates the two L's of HELLO.
        merged = [index for index, _ in itertools.groupby(ids)]
        return "".join(self.symbols[index] for index in merged if index != BLANK).replace("|", " ").strip()


# Training


def distort(samples: np.ndarray, speed: float, rng: np.random.Generator) -> np.ndarray:
    """Vary speed, timbre and noise, then normalise.

    (T,) int16 -> (T / speed,) float32 of mean 0 and variance 1
    """
    positions = np.arange(0, len(samples) - 1, speed)
    signal = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    signal[1:] += rng.uniform(*TILTS) * signal[:-1]  # darker or brighter
    noise = signal.std() * 10 ** (-rng.uniform(*NOISE_RATIOS) / 20)
    signal += noise * rng.standard_normal(len(signal), dtype=np.float32)
    normalised: np.ndarray = (signal - signal.mean()) / math.sqrt(signal.var() + 1e-7)
    return normalised


def symbol_ids(sentence: str) -> torch.Tensor:
    """A lower-case sentence -> (symbols,) int64."""
    return torch.tensor([SYMBOLS.index(symbol) for symbol in sentence.upper().replace(" ", "|")])


def make_batch(clips: Sequence[Clip], rng: np.random.Generator) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Distorted waveforms (B, T) float32, and the symbols of each.

    In some batches the longest waveform, too, is padded with zeros, so that the model learns to recognise padded
    speech: its GroupNorm computes mean and variance over the whole waveform.
    """
    speed = rng.uniform(*SPEED_FACTORS)
    waveforms = [distort(clip.samples, speed, rng) for clip in clips]
    padding = rng.integers(GEAR_STEP) if rng.random() < PADDED_BATCHES else 0
    length = max(map(len, waveforms)) + padding
    batch = np.zeros((len(clips), length), dtype=np.float32)
    for index, waveform in enumerate(waveforms):
        batch[index, : len(waveform)] = waveform
    return torch.from_numpy(batch), [symbol_ids(clip.sentence) for clip in clips]


def endless_batches(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Sequence[Clip]]:
    """Group clips of similar length into batches of BATCH_SECONDS; yield the batches without end, in random order."""
    groups: list[list[Clip]] = [[]]
    for clip in sorted(clips, key=lambda clip: len(clip.samples)):
        if (len(groups[-1]) + 1) * len(clip.samples) > BATCH_SECONDS * SAMPLE_RATE:
            groups.append([])
        groups[-1].append(clip)
    while True:
        for index in rng.permutation(len(groups)):
            yield groups[index]


def ctc_loss(logits: torch.Tensor, targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """The loss in nats per symbol of `targets`; `logits` are (B, F, 32)."""
    log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1)  # (F, B, 32)
    frames = torch.full((len(targets),), len(log_probs))
    lengths = torch.tensor([len(target) for target in targets])
    symbols = torch.cat(list(targets))
    return torch.nn.functional.ctc_loss(log_probs, symbols, frames, lengths, BLANK, "sum") / len(symbols)


def validate(folder: Path, clips: Sequence[Clip]) -> tuple[float, float]:
    """WER of a stored model, unpadded and padded."""
    recognizer = Recognizer(folder)
    references = [clip.sentence.upper() for clip in clips]
    waveforms = [clip.samples / np.float32(32768) for clip in clips]
    plain = jiwer.wer(references, [recognizer(waveform) for waveform in waveforms])
    padded = jiwer.wer(references, [recognizer(waveform, padded=True) for waveform in waveforms])
    return plain, padded


def one_cycle(progress: float) -> float:
    """The share of the peak learning rate at `progress` from 0 to 1: it rises linearly, then falls linearly to 0."""
    return max(0.0, min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP)))


def train_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    waveforms: torch.Tensor,
    targets: list[torch.Tensor],
) -> float:
    """One step of gradient descent, synchronised with the other workers; returns the loss in nats per symbol."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(waveforms).logits  # (B, F, 32)
    loss = ctc_loss(logits, targets)
    optimizer.zero_grad()
    torch.autograd.backward(loss)  # averages the gradients over the workers
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def train_worker(rank: int, meeting_point: Path, cache: Path, folder: Path, schedule: Schedule) -> None:
    """The work of one process of `train`. The process of rank 0 also decides when to end, validates and saves."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting_point.as_uri(), rank=rank, world_size=WORKERS)
    if rank == 0:
        set_up_log()
    clips = read_speech("training", cache)
    spoken = {clip.sentence for clip in clips}
    unspoken = [clip for clip in read_speech("validation", cache) if clip.sentence not in spoken]
    validation = unspoken[:VALIDATION_CLIPS]
    log.info("%d utterances to train, %d to validate", len(clips), len(validation))

    # Attention over so few frames is fastest as plain matrix products ("eager").
    torch.manual_seed(SEED)
    if schedule.resume:
        model = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    else:
        model = Wav2Vec2ForCTC._from_config(model_config(), attn_implementation="eager")
    log.info("%d parameters", model.num_parameters())
    parallel = torch.nn.parallel.DistributedDataParallel(model.train())
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng([SEED, rank])
    batches = endless_batches(clips, rng)
    new = folder.with_name(f"{folder.name}.new")
    best, losses, start = math.inf, [], time.monotonic()

    for step in range(1, schedule.steps + 1):
        elapsed = (time.monotonic() - start) / 60  # minutes
        progress = torch.tensor(max(step / schedule.steps, elapsed / schedule.minutes))
        torch.distributed.broadcast(progress, src=0)
        for group in optimizer.param_groups:
            group["lr"] = schedule.peak_learning_rate * one_cycle(progress.item())
        losses.append(train_step(parallel, optimizer, *make_batch(next(batches), rng)))
        if step % STEPS_PER_LOG == 0:
            loss = sum(losses[-STEPS_PER_LOG:]) / STEPS_PER_LOG
            log.info("step %d: %.1f min, %.0f %%, loss %.4f", step, elapsed, 100 * progress, loss)
        if rank == 0 and (step % STEPS_PER_VALIDATION == 0 or progress >= 1):
            save_model(model, new)
            plain, padded = validate(new, validation)
            log.info("step %d: validation WER %.4f unpadded, %.4f padded", step, plain, padded)
            if plain + padded < best:
                best = plain + padded
                replace_folder(new, folder)
        if progress >= 1:
            break
    torch.distributed.destroy_process_group()


def train(cache: Path, folder: Path, schedule: Schedule) -> None:
    """Train on the speech in `cache`; write the model with the best validation to `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = (Path(temporary) / "meeting_point", cache, folder, schedule)
        spawn(train_worker, settings, nprocs=WORKERS)  # type: ignore[no-untyped-call]  # torch has no types here
    shutil.rmtree(folder.with_name(f"{folder.name}.new"), ignore_errors=True)


# Results


def score(folder: Path, tree: Path, text: DemoText) -> None:
    """Print the WER of a stored model on the corpus, and the utterances with errors."""
    recognizer = Recognizer(folder)
    utterances = read_corpus(tree)
    waveforms = [soundfile.read(utterance.path, dtype="float32")[0] for utterance in utterances]
    print(f"{len(utterances)} utterances, {sum(map(len, waveforms)) / SAMPLE_RATE:.0f} s")
    for padded in (False, True):
        print(f"padded to multiples of {GEAR_STEP} samples:" if padded else "unpadded:")
        texts = [recognizer(waveform, padded=padded) for waveform in waveforms]
        for name, heard in (("all", {True, False}), ("heard in training", {True}), ("never heard", {False})):
            chosen = [i for i, item in enumerate(utterances) if text.is_heard(item.speaker) in heard]
            counts = jiwer.process_words([utterances[i].text for i in chosen], [texts[i] for i in chosen])
            errors = counts.substitutions + counts.deletions + counts.insertions
            words = counts.hits + counts.substitutions + counts.deletions
            print(f"  {name}: WER {counts.wer:.4f}, {errors} errors in {words} words")
        for i, item in enumerate(utterances):
            if texts[i] != item.text:
                print(f"  {item.utterance_id}\n    reference:  {item.text}\n    hypothesis: {texts[i]}")


def add_sentence(sentence: str, speaker: int, text: DemoText, tree: Path, folder: Path) -> None:
    """Speak a new sentence into the corpus, and print the model's transcript of it."""
    utterance = add_utterance(sentence, speaker, text.speakers[speaker], CHAPTERS[-1], tree)
    print(f"written: {utterance.path}")
    print(f"reference:  {utterance.text}")
    print(f"hypothesis: {Recognizer(folder)(soundfile.read(utterance.path, dtype='float32')[0])}")


def set_up_log() -> None:
    """Log to standard output."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)


def spoken_sentence(argument: str) -> str:
    """Option type: words of letters and apostrophes, in lower case."""
    sentence = " ".join(argument.lower().split())
    if not re.fullmatch(r"[a-z' ]+", sentence):
        raise argparse.ArgumentTypeError(f"expected letters, apostrophes and spaces only, found {argument!r}")
    return sentence


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--folder", type=Path, default=HERE, help="the folder of LibriSpeech/, model/ and cache/")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("corpus", help="speak the corpus")
    speech = commands.add_parser("speech", help="speak the utterances for training and validation")
    speech.add_argument("--hours", type=float, default=36.0, help="of speech for training")
    training = commands.add_parser("train", help="train the model on the speech")
    training.add_argument("--steps", type=int, default=24_000, help="end after this many steps at the latest")
    training.add_argument("--minutes", type=float, default=math.inf, help="end after this time at the latest")
    training.add_argument("--peak_learning_rate", type=float, default=1.5e-3)
    training.add_argument("--resume", action="store_true", help="start from the stored model instead of random weights")
    commands.add_parser("score", help="WER of the model on the corpus")
    sentence = commands.add_parser("speak", help="add one sentence to the corpus")
    sentence.add_argument("sentence", type=spoken_sentence)
    sentence.add_argument("--speaker", type=int, required=True, choices=sorted(read_text().speakers))
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    args = parse_args(argv)
    set_up_log()
    text = read_text()
    model, cache = args.folder / "model", args.folder / "cache"
    tree = args.folder / "LibriSpeech" / "test-clean"
    if args.command == "corpus":
        make_corpus(text, tree.parent)
    elif args.command == "speech":
        make_speech(text, "validation", 0.1, cache)
        make_speech(text, "training", args.hours, cache)
    elif args.command == "train":
        train(cache, model, Schedule(args.steps, args.minutes, args.peak_learning_rate, args.resume))
    elif args.command == "score":
        score(model, tree, text)
    elif args.command == "speak":
        add_sentence(args.sentence, args.speaker, text, tree, model)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
