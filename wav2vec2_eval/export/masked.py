# SPDX-License-Identifier: Apache-2.0
"""A wav2vec2 whose answer does not depend on the amount of padding.

An utterance has L real samples, padded to T >= L. A position of a layer is called real if the unpadded utterance has
that position, too. The values at real positions must depend on real positions alone:

- Convolutions of the feature extractor: each position reads a fixed window of samples, and the position is real exactly
  if the window ends before L. So real positions read real positions only, and nothing needs to change. This also gives
  the mask of a layer's positions: the sample mask at the last sample of each window, a strided slice.
- GroupNorm of the first layer: mean and variance are taken over the real positions instead of all positions.
- Feature projection, feed-forward and LayerNorms: each frame is computed by itself, so nothing needs to change.
- Positional convolution: in an unpadded utterance it reads zeros beyond the end. So the padding frames are set to zero
  before it. (Data2Vec has several, one after the other; each one needs that.)
- Attention: the scores of padding frames are lowered until their weights are exactly zero.
- Logits: those of padding frames become the blank, which decodes to nothing.

No other layer mixes positions, so these changes are sufficient. They add only Slice, Unsqueeze, ReduceMean, Mul, Div,
Add, Sub and Sqrt to the graph, and no shape is computed from data.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ..errors import SuiteError
from ..speech.audio import hop_length, receptive_field

# Added to the attention scores of padding frames: far below any score, so exp() gives 0, and within float16's range.
NO_ATTENTION = -10_000.0

# Their encoders have the layers that are listed above. WavLM's attention adds a position bias, which the list lacks.
MASKABLE_TYPES = ("wav2vec2", "hubert", "data2vec-audio", "unispeech-sat")


class MaskedWav2Vec2(torch.nn.Module):
    """(B, T) waveforms and (B, T) masks, 1 at real samples and 0 at the padding, float32 -> (B, F, V) logits.

    Raises SuiteError for a model with other parts that mix positions.
    """

    blank: torch.Tensor  # (V,) logits of the blank alone

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        config = model.config
        if config.model_type not in MASKABLE_TYPES:
            raise SuiteError(
                f"--attention_mask: a model of model_type {config.model_type} cannot be made exact; export without it"
            )
        for option in ("add_adapter", "conv_pos_batch_norm"):
            if getattr(config, option, False):
                raise SuiteError(f"--attention_mask: models with {option} cannot be made exact; export without it")
        norm = getattr(config, "feat_extract_norm", "layer")  # Data2Vec has no choice
        if norm not in ("group", "layer"):
            raise SuiteError(f"--attention_mask: expected GroupNorm or LayerNorm, found {norm}")
        self.model = model
        self.body: Any = model.base_model  # of which each type has a class of its own
        blank = torch.zeros(model.lm_head.out_features)
        blank[config.pad_token_id] = 1.0
        self.register_buffer("blank", blank)

    def forward(self, waveform: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        config, encoder = self.model.config, self.body.encoder
        stable = getattr(config, "do_stable_layer_norm", False)  # Data2Vec has no choice
        features = self._extract_features(waveform, attention_mask)
        projected = self.body.feature_projection(features.transpose(1, 2))
        hidden = projected if isinstance(projected, torch.Tensor) else projected[0]  # others than HuBERT return two

        first = receptive_field(config.conv_kernel, config.conv_stride) - 1  # the last sample of the first frame
        real = attention_mask[:, first :: hop_length(config.conv_stride)]  # (B, F)
        frames = real.unsqueeze(-1)

        hidden = hidden * frames
        hidden = hidden + _positions(encoder.pos_conv_embed, hidden, frames)
        if not stable:
            hidden = encoder.layer_norm(hidden)
        scores = ((1.0 - real) * NO_ATTENTION).unsqueeze(1).unsqueeze(1)  # (B, heads, queries, F)
        for layer in encoder.layers:
            hidden = layer(hidden, attention_mask=scores)
        if stable:
            hidden = encoder.layer_norm(hidden)
        logits: torch.Tensor = self.model.lm_head(hidden)
        return logits * frames + self.blank * (1.0 - frames)

    def _extract_features(self, waveform: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        first, *others = self.body.feature_extractor.conv_layers
        hidden: torch.Tensor = waveform.unsqueeze(1)
        if isinstance(getattr(first, "layer_norm", None), torch.nn.GroupNorm):
            hidden = first.conv(hidden)
            kernel, stride = self.model.config.conv_kernel[0], self.model.config.conv_stride[0]
            real = attention_mask[:, kernel - 1 :: stride].unsqueeze(1)  # (B, 1, positions)
            hidden = first.activation(_masked_group_norm(hidden, real, first.layer_norm))
        else:
            hidden = first(hidden)
        for layer in others:
            hidden = layer(hidden)
        return hidden


def _positions(embedding: Any, hidden: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """The positional convolution of (B, F, H), or several of them; `frames` (B, F, 1) is 1 at real frames."""
    if not hasattr(embedding, "layers"):
        alone: torch.Tensor = embedding(hidden)
        return alone
    hidden, real = hidden.transpose(1, 2), frames.transpose(1, 2)
    for layer in embedding.layers:
        hidden = layer(hidden) * real
    return hidden.transpose(1, 2)


def _masked_group_norm(hidden: torch.Tensor, real: torch.Tensor, norm: torch.nn.GroupNorm) -> torch.Tensor:
    """GroupNorm of (B, C, P) with one group per channel, its statistics over the real positions only.

    The variance is taken around the mean (two passes). Both are means over all positions divided by the share of the
    real ones, and not sums, which over 100,000 positions would leave float16's range. Computed in float16, that costs
    about 1e-3 where the utterance fills most of its gear, more where real positions are a few percent.
    """
    share = real.mean(-1, keepdim=True)
    mean = (hidden * real).mean(-1, keepdim=True) / share
    centred = (hidden - mean) * real
    variance = (centred * centred).mean(-1, keepdim=True) / share
    scale = norm.weight.unsqueeze(-1) / torch.sqrt(variance + norm.eps)
    return centred * scale + norm.bias.unsqueeze(-1)
