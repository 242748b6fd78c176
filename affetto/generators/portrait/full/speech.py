"""Speech as whisper's encoder hears it: five layers of states every 20 ms, ten of them around each frame."""

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Float32
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError

RATE = 16_000
CHUNK = 30 * RATE  # samples that whisper hears at once
SAMPLES_PER_TOKEN = 320
TOKENS_PER_FRAME = 4  # at 12.5 frames a second
WINDOW = 10  # tokens: 200 ms
_BEFORE, _AFTER = 4, 6  # tokens of silence about the states


class SpeechEncoder(ModelMixin, ConfigMixin):
    """Whisper's encoder (default: whisper-tiny), under the names that its published file has (`encoder.*`)."""

    @register_to_config
    def __init__(
        self,
        width: int = 384,
        layers: int = 4,
        heads: int = 6,
        feed_forward: int = 1536,
        bands: int = 80,
        positions: int = 1500,
    ) -> None:
        super().__init__()
        self.encoder = WhisperEncoder(
            WhisperConfig(
                d_model=width,
                encoder_layers=layers,
                encoder_attention_heads=heads,
                encoder_ffn_dim=feed_forward,
                num_mel_bins=bands,
                max_source_positions=positions,
            )
        )

    def forward(self, mels: Float[Tensor, "chunk band frame"]) -> Float[Tensor, "chunk token layer width"]:
        """The states after the embedding and after each layer (the last one normed)."""
        states = self.encoder(mels, output_hidden_states=True).hidden_states
        return torch.stack(states, dim=2)


@torch.inference_mode()
def speech_states(encoder: SpeechEncoder, audio: Audio) -> Float[Tensor, "token layer width"]:
    """The states of a whole recording, 50 a second, computed in chunks of 30 s that do not know each other.

    The number is even, as published: twice the whole 40 ms in the sound. Raises InvalidInputError below 80 ms.
    """
    samples = mono_16k(audio)
    kept = 2 * (len(samples) // (2 * SAMPLES_PER_TOKEN))
    if kept < TOKENS_PER_FRAME:
        raise InvalidInputError(
            f"{audio.path or 'audio'}: {len(samples) / RATE:.3f} s are too short to speak: give at least 0.08 s"
        )
    config = encoder.encoder.config
    chunk = config.max_source_positions * SAMPLES_PER_TOKEN
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=chunk // RATE)
    parts = []
    for start in range(0, len(samples), chunk):
        mels = extractor(samples[start : start + chunk], sampling_rate=RATE, return_tensors="pt")
        parts.append(encoder(mels.input_features.to(encoder.device, encoder.dtype))[0])
    return torch.cat(parts)[:kept]


def mono_16k(audio: Audio) -> Float32[np.ndarray, "sample"]:
    """The sound as whisper wants it."""
    return np.asarray(audio.resampled(RATE).mono(), np.float32)


def speech_windows(
    states: Float[Tensor, "token layer width"], frames: int
) -> Float[Tensor, "frame 10 layer width"]:
    """Ten states for each frame, 80 ms before its time to 120 ms after; silence (zeros) outside."""
    before = states.new_zeros(_BEFORE, *states.shape[1:])
    missing = max(0, TOKENS_PER_FRAME * (frames - 1) + WINDOW - _BEFORE - len(states))
    after = states.new_zeros(max(_AFTER, missing), *states.shape[1:])
    padded = torch.cat([before, states, after])
    return padded.unfold(0, WINDOW, TOKENS_PER_FRAME)[:frames].movedim(-1, 1)


def published_frames(states: int) -> int:
    """How many frames the published code makes of so many states: one for each 80 ms that are whole."""
    return states // TOKENS_PER_FRAME
