# SPDX-License-Identifier: Apache-2.0
"""The model in PyTorch: loaded for export and for the baseline."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from ..errors import SuiteError, one_line
from .hub import model_file
from .model_folder import read_json

Shapes = dict[str, tuple[int, ...]]  # of weights, by name

# The first of these that exists is read, as transformers does. An index names the files of a model in several parts.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

# Only training reads these: a fine-tuned model may have them or not.
_FOR_TRAINING = re.compile(r"wav2vec2\.masked_spec_embed|(quantizer|project_q|project_hid)\..+")

# How older files name weights, and how transformers names them now.
_RENAMED = (
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
    (re.compile(r"^(?=(feature_extractor|feature_projection|encoder|adapter|masked_spec_embed)\b)"), "wav2vec2."),
)


def load_model(name: str, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Wav2Vec2ForCTC:
    """Load a hub id or local folder, in evaluation mode and without gradients.

    Raises SuiteError if it cannot be loaded, or if its weights are not those of the model that its config.json
    describes: transformers would make random ones for those that are missing, and ignore those that are too many.
    """
    transformers.logging.set_verbosity(logging.CRITICAL)  # the errors below report the failure
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    files = _weight_files(name)
    config = read_json(name, "config.json")
    folder = files[0].parent  # of a hub id, where its client has put the files
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = {_renamed(key): shape for path in files for key, shape in _shapes(path).items()}
            _check_sizes(name, config, found)
            expected = _expected_shapes(folder)
            other = [key for key in expected.keys() & found.keys() if expected[key] != found[key]]
            _refuse(name, expected.keys() - found.keys(), other, found.keys() - expected.keys())
            loaded: tuple[Wav2Vec2ForCTC, dict[str, Any]] = Wav2Vec2ForCTC.from_pretrained(  # type: ignore[assignment]
                folder,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                output_loading_info=True,  # makes it return a pair, which its annotation does not say
            )
    except SuiteError:
        raise
    except Exception as error:  # bad values in config.json, cut weights: each has its own class
        raise SuiteError(
            f"{name}: cannot be loaded as Wav2Vec2ForCTC ({one_line(error)}); copy the folder again"
        ) from None
    model, loading = loaded
    _refuse(name, loading["missing_keys"], loading["mismatched_keys"], loading["unexpected_keys"])
    model.eval().requires_grad_(False)
    return model


def _weight_files(name: str) -> list[Path]:
    """The files with the model's weights; those of a hub id are downloaded."""
    for file in _WEIGHTS:
        path = _find(name, file)
        if path is not None and file.endswith(".index.json"):
            parts = read_json(name, file).get("weight_map")
            files = set(parts.values()) if isinstance(parts, dict) else set()
            if not files or not all(isinstance(part, str) and Path(part).name == part for part in files):
                raise SuiteError(f"{path}: expected a weight_map with the names of files; copy the folder again")
            return [_find(name, part) or Path(name, part) for part in sorted(files)]
        if path is not None:
            return [path]
    raise SuiteError(
        f"{name}: cannot be loaded as Wav2Vec2ForCTC (no {_WEIGHTS[0]} and no {_WEIGHTS[2]}); copy the folder again"
    )


def _find(name: str, file: str) -> Path | None:
    path = model_file(name, file, required=False)
    return path if path is not None and os.path.lexists(path) else None


def _shapes(path: Path) -> Shapes:
    """The shapes of the weights in a file, without reading the weights."""
    if not path.is_file():  # opening a named pipe would wait for its writer
        raise SuiteError(f"{path}: expected a regular file, found none; copy the folder again")
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    weights = torch.load(path, map_location="meta", weights_only=True)
    return {key: tuple(weight.shape) for key, weight in weights.items()}


def _renamed(key: str) -> str:
    for old, new in _RENAMED:
        key = old.sub(new, key)
    return key


def _check_sizes(name: str, config: dict[str, Any], found: Shapes) -> None:
    """Raise SuiteError for a config.json of a model that it would take long, or much memory, to describe."""
    largest = max((size for shape in found.values() for size in shape), default=0)
    for key, limit in (
        ("num_hidden_layers", len(found)),
        ("num_adapter_layers", len(found)),
        ("conv_dim", len(found)),
        ("hidden_size", largest),
        ("output_hidden_size", largest),
    ):
        value = config.get(key)
        size = len(value) if isinstance(value, list) else value
        if isinstance(size, int) and size > limit:
            raise SuiteError(
                f"{name}: {key} in config.json is {size!s:.20}, more than its {len(found)} weights allow; the folder "
                f"mixes two models"
            )


def _expected_shapes(folder: Path) -> Shapes:
    """The shapes of the weights of the model that config.json describes. The model takes no memory."""
    config = Wav2Vec2Config.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        return {key: tuple(weight.shape) for key, weight in Wav2Vec2ForCTC(config).state_dict().items()}


def _refuse(name: str, missing: Iterable[str], other: Iterable[Any], extra: Iterable[str]) -> None:
    """Raise SuiteError if a weight is missing, of another shape, or not in the model."""
    problems = []
    for what, keys in (("missing", missing), ("of another shape", other), ("not in the model", extra)):
        names = sorted(key for key in map(str, keys) if not _FOR_TRAINING.fullmatch(key))
        if names:
            problems.append(f"{len(names)} weights are {what} (first: {names[0]:.100})")
    if problems:
        raise SuiteError(
            f"{name}: compared with config.json, {', '.join(problems)}; expected a fine-tuned Wav2Vec2ForCTC"
        )
