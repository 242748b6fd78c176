"""How large the networks of a DICE-Talk are: the published sizes, and how to build any on no memory at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.interpolation import FrameInterpolator
from affetto.generators.portrait.full.projections import AudioProjection, EmotionModel, PoseGuider
from affetto.generators.portrait.full.speech import SpeechEncoder

_CLIP_H = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "patch_size": 14, "image_size": 224, "projection_dim": 1024, "hidden_act": "gelu",
}  # fmt: skip
_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 768}

Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DiceSizes:
    """The options of each network, by the name that the pipeline gives it; the defaults are the published ones."""

    unet: Options = field(default_factory=dict)
    audio_linear: Options = field(default_factory=dict)
    emotion_model: Options = field(default_factory=dict)
    pose_guider: Options = field(default_factory=dict)
    interpolator: Options = field(default_factory=dict)
    speech: Options = field(default_factory=dict)
    vae: Options = field(default_factory=lambda: dict(_VAE))
    image_encoder: Options = field(default_factory=lambda: dict(_CLIP_H))

    def build(self, name: str) -> nn.Module:
        """The network `name` with fresh weights."""
        return _BUILDERS[name](dict(getattr(self, name)))

    def empty(self, name: str) -> nn.Module:
        """The network `name` without memory behind its parameters, to be filled by `load_state_dict(assign=True)`."""
        with init_empty_weights():
            return self.build(name)

    def to_json(self) -> str:
        """For the metadata of a weight file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DiceSizes":
        """What `to_json` wrote."""
        return cls(**json.loads(text))


NETWORKS = (
    "unet", "audio_linear", "emotion_model", "pose_guider", "interpolator", "speech", "vae", "image_encoder",
)  # fmt: skip


def _vae(options: dict[str, Any]) -> nn.Module:
    channels = tuple(options.pop("block_out_channels"))
    down = ("DownEncoderBlock2D",) * len(channels)
    return AutoencoderKLTemporalDecoder(block_out_channels=channels, down_block_types=down, **options)  # type: ignore[arg-type]


def _denoiser(options: dict[str, Any]) -> nn.Module:
    return TalkingDenoiser(**_with_tuples(options))


def _guider(options: dict[str, Any]) -> nn.Module:
    return PoseGuider(**_with_tuples(options))


def _with_tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Lists, which JSON makes of tuples, as tuples again."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


_BUILDERS = {
    "unet": _denoiser,
    "audio_linear": lambda options: AudioProjection(**options),
    "emotion_model": lambda options: EmotionModel(**options),
    "pose_guider": _guider,
    "interpolator": lambda options: FrameInterpolator(**options),
    "speech": lambda options: SpeechEncoder(**options),
    "vae": _vae,
    "image_encoder": lambda options: CLIPVisionModelWithProjection(CLIPVisionConfig(**options)),
}


def scheduler() -> EulerDiscreteScheduler:
    """SVD-xt's: v-prediction, Karras sigmas 700 to 0.002, times as a quarter of log sigma."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        interpolation_type="linear",
    )
