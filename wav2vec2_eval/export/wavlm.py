# SPDX-License-Identifier: Apache-2.0
"""WavLM's relative position bias in a form that opset 11 has.

transformers computes for each pair of frames, from logarithms and minima of whole numbers, which entry of the learned
table belongs to their distance. Opset 11 has no minimum of whole numbers, and two engines may round a logarithm to
different entries. From `max_distance` on, the entry stays the same: so the entries of all distances are a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

_TABLE = "bias_of_distance"  # (distances, heads), from the most negative to the most positive distance


@contextmanager
def exportable(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, a WavLM computes the same bias in the other form. Other models are left alone."""
    attentions: list[Any] = [module for module in model.modules() if hasattr(module, "rel_attn_embed")]
    for attention in attentions:
        farthest = int(attention.max_distance)
        buckets = attention._relative_positions_bucket(torch.arange(-farthest, farthest + 1))
        # A part of the model, as NNCF expects of a table that is looked up.
        attention.register_buffer(_TABLE, attention.rel_attn_embed(buckets))
        attention.compute_bias = partial(_relative_bias, attention)
    try:
        yield
    finally:
        for attention in attentions:
            del attention.compute_bias  # the method of its class remains
            delattr(attention, _TABLE)


def _relative_bias(attention: torch.nn.Module, num_queries: int, num_keys: int) -> torch.Tensor:
    """The bias of each pair of frames: (heads, queries, keys)."""
    table: torch.Tensor = getattr(attention, _TABLE)
    queries, keys = (torch.arange(number, dtype=torch.float32) for number in (num_queries, num_keys))
    farthest = len(table) // 2
    distances = (keys[None, :] - queries[:, None]).clamp(-farthest, farthest)
    return table[(distances + farthest).long()].permute(2, 0, 1)
