"""How EMOTE hears: wav2vec 2.0 whose features are brought to the picture's rate before the transformer sees them."""

from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

RATE = 16_000
_TINY = 1e-7  # added to the variance, as published


def normalised(samples: Float[np.ndarray, "sample"]) -> Float[np.ndarray, "sample"]:
    """The samples through 16-bit integers (as published), then with zero mean and unit variance."""
    whole = np.trunc(np.clip(np.asarray(samples, np.float64) * 32768.0, -32768.0, 32767.0))
    return ((whole - whole.mean()) / np.sqrt(whole.var() + _TINY)).astype(np.float32)


class SpeechNetwork(nn.Module):
    """wav2vec 2.0 that gives exactly as many states as there are frames (`audio_model` of the checkpoints)."""

    def __init__(self, config: Wav2Vec2Config | None = None) -> None:
        super().__init__()
        config = config or Wav2Vec2Config()
        self.model = Wav2Vec2Model(config)
        self.model.set_attn_implementation("sdpa")
        self.width = int(config.hidden_size)

    def forward(
        self, samples: Float[Tensor, "clip sample"], frames: int
    ) -> Float[Tensor, "clip {frames} width"]:
        """States of `frames` frames that span the samples, the first and the last at their very ends.

        The convolutions' features (about 50 Hz) are interpolated linearly, corners aligned, before the projection; so
        25, 30 or any rate works.
        """
        features = self.model.feature_extractor(samples)
        features = F.interpolate(features, size=frames, mode="linear", align_corners=True)
        hidden, _ = self.model.feature_projection(features.transpose(1, 2))
        return self.model.encoder(hidden).last_hidden_state

    def freeze_front(self) -> None:
        """Keep the convolutions as they are while training, as published."""
        self.model.feature_extractor.requires_grad_(False)


def renamed_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with today's names of the positional convolution's weight norm (files before 2024 have the old)."""
    names = {"conv.weight_g": "conv.parametrizations.weight.original0",
             "conv.weight_v": "conv.parametrizations.weight.original1"}  # fmt: skip
    renamed = {}
    for key, value in state.items():
        for old, new in names.items():
            if key.endswith(f"pos_conv_embed.{old}"):
                key = key.removesuffix(old) + new
        renamed[key] = value
    return renamed
