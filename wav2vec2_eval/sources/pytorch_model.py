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
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, MODEL_FOR_CTC_MAPPING, PretrainedConfig, PreTrainedModel

from ..errors import SuiteError, one_line
from .hub import model_file
from .model_folder import MODEL_TYPES, adapter, check_type, read_json, symbols

Shapes = dict[str, tuple[int, ...]]  # of weights, by name

# The first of these that exists is read, as transformers does. An index names the files of a model in several parts.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

# Only training reads these: a fine-tuned model may have them or not.
_FOR_TRAINING = re.compile(r"\w+\.masked_spec_embed|(quantizer|project_q|project_hid)\..+")

# How older files name weights, and how transformers names them now. Others lack the name of the model's body.
_RENAMED = (
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
)
_IN_BODY = re.compile(r"(feature_extractor|feature_projection|encoder|adapter|masked_spec_embed)\b")


def load_model(
    name: str, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa", target_lang: str | None = None
) -> PreTrainedModel:
    """Load a hub id or local folder, in evaluation mode and without gradients.

    Of a model for several languages (MMS), the adapter of `target_lang`, or of the folder's language, is loaded if
    there is one. Raises SuiteError if the model cannot be loaded, or if its weights are not those of the model that its
    config.json describes: transformers would make random ones for those that are missing, and ignore those that are
    too many.
    """
    transformers.logging.set_verbosity(logging.CRITICAL)  # the errors below report the failure
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    config = read_json(name, "config.json")
    check_type(name, config)
    config_class: Any = CONFIG_MAPPING[config.get("model_type", MODEL_TYPES[0])]
    model_class: Any = MODEL_FOR_CTC_MAPPING[config_class]  # as AutoModelForCTC chooses it
    if not model_class._supports_sdpa:  # WavLM has one attention, which goes by this name
        attention = "eager"
    kind = model_class.__name__
    files = _weight_files(name, kind)
    folder = files[0].parent  # of a hub id, where its client has put the files
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = model_class.base_model_prefix
            found = {_renamed(key, body): shape for path in files for key, shape in _shapes(path).items()}
            _check_sizes(name, config, found)
            expected = _expected_shapes(model_class, config_class.from_pretrained(folder, local_files_only=True))
            _compare(name, kind, found, expected)
            model: PreTrainedModel
            model, loading = model_class.from_pretrained(
                folder, dtype=dtype, attn_implementation=attention, local_files_only=True, output_loading_info=True
            )
            _refuse(name, kind, loading["missing_keys"], loading["mismatched_keys"], loading["unexpected_keys"])
            path = adapter(name, target_lang)
            if path is not None:
                _load_adapter(model, path)
    except SuiteError:
        raise
    except Exception as error:  # bad values in config.json, cut weights: each has its own class
        raise SuiteError(f"{name}: cannot be loaded as {kind} ({one_line(error)}); copy the folder again") from None
    known = symbols(name, target_lang)
    if len(known.table) != model.config.vocab_size:
        raise SuiteError(
            f"{name}: its vocabulary has {len(known.table)} symbols, but the model has {model.config.vocab_size} "
            f"outputs; the folder mixes two models"
        )
    # Masked frames become the blank that decoding drops. A config.json may name another symbol.
    model.config.pad_token_id = known.table.index(known.blank)
    model.eval().requires_grad_(False)
    return model


def _load_adapter(model: PreTrainedModel, path: Path) -> None:
    """Replace the layers that depend on the language, as transformers' `load_adapter` does.

    Raises SuiteError for the weights of another model. The number of symbols is the adapter's own.
    """
    found = _shapes(path)
    expected = {
        key: tuple(weight.shape)
        for key, weight in model.state_dict().items()
        if ".adapter_layer." in key or key.startswith("lm_head.")
    }
    num_outputs = found.get("lm_head.bias", expected["lm_head.bias"])[0]
    for key in ("lm_head.weight", "lm_head.bias"):
        expected[key] = (num_outputs, *expected[key][1:])
    _compare(str(path), type(model).__name__, found, expected)
    old = model.lm_head
    model.lm_head = torch.nn.Linear(old.in_features, num_outputs, dtype=old.weight.dtype)
    model.config.vocab_size = num_outputs
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    model.load_state_dict(weights, strict=False)  # the others are there already


def _weight_files(name: str, kind: str) -> list[Path]:
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
        f"{name}: cannot be loaded as {kind} (no {_WEIGHTS[0]} and no {_WEIGHTS[2]}); copy the folder again"
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


def _renamed(key: str, body: str) -> str:
    for old, new in _RENAMED:
        key = old.sub(new, key)
    return f"{body}.{key}" if _IN_BODY.match(key) else key


def _check_sizes(name: str, config: dict[str, Any], found: Shapes) -> None:
    """Raise SuiteError for a config.json of a model that it would take long, or much memory, to describe."""
    largest = max((size for shape in found.values() for size in shape), default=0)
    for key, limit in (
        ("num_hidden_layers", len(found)),
        ("num_adapter_layers", len(found)),
        ("conv_dim", len(found)),
        *([("num_conv_pos_embeddings", len(found))] if config.get("model_type") == "data2vec-audio" else []),
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


def _expected_shapes(model_class: type[PreTrainedModel], config: PretrainedConfig) -> Shapes:
    """The shapes of the weights of the model that config.json describes. The model takes no memory."""
    with torch.device("meta"):
        return {key: tuple(weight.shape) for key, weight in model_class(config).state_dict().items()}


def _compare(name: str, kind: str, found: Shapes, expected: Shapes) -> None:
    """Raise SuiteError unless the weights are those that are expected."""
    other = [key for key in expected.keys() & found.keys() if expected[key] != found[key]]
    _refuse(name, kind, expected.keys() - found.keys(), other, found.keys() - expected.keys())


def _refuse(name: str, kind: str, missing: Iterable[str], other: Iterable[Any], extra: Iterable[str]) -> None:
    """Raise SuiteError if a weight is missing, of another shape, or not in the model."""
    problems = []
    for what, keys in (("missing", missing), ("of another shape", other), ("not in the model", extra)):
        names = sorted(key for key in map(str, keys) if not _FOR_TRAINING.fullmatch(key))
        if names:
            problems.append(f"{len(names)} weights are {what} (first: {names[0]:.100})")
    if problems:
        raise SuiteError(f"{name}: compared with config.json, {', '.join(problems)}; expected a fine-tuned {kind}")
