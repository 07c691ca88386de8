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
  before it.
- Attention: the scores of padding frames are lowered until their weights are exactly zero.
- Logits: those of padding frames become the blank, which decodes to nothing.

No other layer mixes positions, so these changes are sufficient. They add only Slice, Unsqueeze, ReduceMean, Mul, Div,
Add, Sub and Sqrt to the graph, and no shape is computed from data.
"""

from __future__ import annotations

import torch
from transformers import Wav2Vec2ForCTC
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GroupNormConvLayer

from ..errors import SuiteError
from ..speech.audio import hop_length, receptive_field

# Added to the attention scores of padding frames: far below any score, so exp() gives 0, and within float16's range.
NO_ATTENTION = -10_000.0


class MaskedWav2Vec2(torch.nn.Module):
    """(B, T) waveforms and (B, T) masks, 1 at real samples and 0 at the padding, float32 -> (B, F, V) logits.

    Raises SuiteError for a model with other parts that mix positions.
    """

    blank: torch.Tensor  # (V,) logits of the blank alone

    def __init__(self, model: Wav2Vec2ForCTC) -> None:
        super().__init__()
        config = model.config
        for option in ("add_adapter", "conv_pos_batch_norm"):
            if getattr(config, option, False):
                raise SuiteError(f"--attention_mask: models with {option} cannot be made exact; export without it")
        if config.feat_extract_norm not in ("group", "layer"):
            raise SuiteError(f"--attention_mask: expected GroupNorm or LayerNorm, found {config.feat_extract_norm}")
        self.model = model
        blank = torch.zeros(model.lm_head.out_features)
        blank[config.pad_token_id] = 1.0
        self.register_buffer("blank", blank)

    def forward(self, waveform: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        config, encoder = self.model.config, self.model.wav2vec2.encoder
        features = self._extract_features(waveform, attention_mask)
        hidden, _ = self.model.wav2vec2.feature_projection(features.transpose(1, 2))

        first = receptive_field(config.conv_kernel, config.conv_stride) - 1  # the last sample of the first frame
        real = attention_mask[:, first :: hop_length(config.conv_stride)]  # (B, F)
        frames = real.unsqueeze(-1)

        hidden = hidden * frames
        hidden = hidden + encoder.pos_conv_embed(hidden)
        if not config.do_stable_layer_norm:
            hidden = encoder.layer_norm(hidden)
        scores = ((1.0 - real) * NO_ATTENTION).unsqueeze(1).unsqueeze(1)  # (B, heads, queries, F)
        for layer in encoder.layers:
            hidden = layer(hidden, attention_mask=scores)
        if config.do_stable_layer_norm:
            hidden = encoder.layer_norm(hidden)
        logits: torch.Tensor = self.model.lm_head(hidden)
        return logits * frames + self.blank * (1.0 - frames)

    def _extract_features(self, waveform: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        first, *others = self.model.wav2vec2.feature_extractor.conv_layers
        hidden: torch.Tensor = waveform.unsqueeze(1)
        if isinstance(first, Wav2Vec2GroupNormConvLayer):
            hidden = first.conv(hidden)
            kernel, stride = self.model.config.conv_kernel[0], self.model.config.conv_stride[0]
            real = attention_mask[:, kernel - 1 :: stride].unsqueeze(1)  # (B, 1, positions)
            hidden = first.activation(_masked_group_norm(hidden, real, first.layer_norm))
        else:
            hidden = first(hidden)
        for layer in others:
            hidden = layer(hidden)
        return hidden


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
