# SPDX-License-Identifier: Apache-2.0
"""The model in PyTorch: loaded for export and for the baseline."""

from __future__ import annotations

import logging
import sys
from typing import Any

import torch
import transformers
from transformers import Wav2Vec2ForCTC

from ..errors import SuiteError, one_line
from .hub import hub_error, is_local, silence_hub


def load_model(name: str, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Wav2Vec2ForCTC:
    """Load a hub id or local folder, in evaluation mode and without gradients.

    Raises SuiteError if it cannot be loaded, or if its weights lack a part (a model without a CTC head would
    otherwise start with a random one).
    """
    local = is_local(name)
    silence_hub()
    transformers.logging.set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    try:
        loaded: tuple[Wav2Vec2ForCTC, dict[str, Any]] = Wav2Vec2ForCTC.from_pretrained(  # type: ignore[assignment]
            name,
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=local,
            ignore_mismatched_sizes=True,  # they are reported below, by name
            output_loading_info=True,  # makes it return a pair, which its annotation does not say
        )
    except Exception as error:  # missing files, bad JSON, cut weights, hub failures: each has its own class
        if not local:
            raise hub_error(name, error, "--model_name_or_path") from None
        raise SuiteError(
            f"{name}: cannot be loaded as Wav2Vec2ForCTC ({one_line(error)}); copy the folder again"
        ) from None
    model, loading = loaded
    # Only training reads masked_spec_embed.
    missing = [key for key in loading["missing_keys"] if not key.endswith("masked_spec_embed")]
    missing += [key for key, *_shapes in loading["mismatched_keys"]]
    if missing:
        raise SuiteError(
            f"{name}: {len(missing)} weights are missing or of another shape (first: {sorted(missing)[0]}); "
            f"expected a fine-tuned Wav2Vec2ForCTC"
        )
    model.eval().requires_grad_(False)
    return model
