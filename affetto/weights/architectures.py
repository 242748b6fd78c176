"""Which known network a file of tensors belongs to, told by its names, so that a wrong file can be called by its own."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from affetto.runtime.errors import InvalidInputError

SIGNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # what it is: patterns that all occur among its names; the first that fits counts
        "the DICE-Talk denoiser": (r"attn2\.processor\.to_k_ip\.1\.weight", r"temporal_transformer_blocks"),
        "the Sonic denoiser": (r"attn2\.processor\.to_k_ip", r"temporal_transformer_blocks"),
        "the Stable Video Diffusion denoiser": (r"temporal_transformer_blocks\.0\.attn1",),
        "a Stable Diffusion XL denoiser": (r"^(unet\.)?add_embedding\.linear_1", r"transformer_blocks\.9\."),
        "a Stable Diffusion denoiser": (r"^down_blocks\.0\.attentions\.0\.transformer_blocks", r"^conv_in\."),
        "a Stable Diffusion checkpoint in one file": (r"^model\.diffusion_model\.",),
        "the Stable Video Diffusion VAE": (r"decoder\.time_conv_out\.weight",),
        "a Stable Diffusion VAE": (r"^quant_conv\.weight", r"^decoder\.conv_in\.weight"),
        "EMOTE": (r"sequence_decoder\.bert_decoder\.",),
        "FLINT, EMOTE's motion prior alone": (r"motion_decoder\.expander\.", r"cross_smooth_layer"),
        "DICE-Talk's emotion model": (r"^codebook\.codebook\.weight", r"^emo_linear\."),
        "an audio or emotion projection": (r"^proj3\.weight", r"^norm\.weight"),
        "a pose guider": (r"^blocks\.5\.weight", r"^conv_out\.weight"),
        "RIFE's frame interpolation": (r"block_tea\.",),
        "a CLIP vision model": (r"^vision_model\.", r"^visual_projection\.|^vision_model\.post_layernorm"),
        "a CLIP text model": (r"text_model\.encoder\.layers",),
        "Whisper": (r"encoder\.conv1\.weight", r"encoder\.embed_positions\.weight"),
        "wav2vec 2.0 with a regression head": (r"feature_extractor\.conv_layers\.", r"^classifier\."),
        "wav2vec 2.0, HuBERT or their like": (r"feature_extractor\.conv_layers\.",),
        "HiFi-GAN": (r"^(generator\.)?conv_pre\.", r"ups\.0\."),
        "Vocos": (r"^backbone\.convnext\.", r"^head\.out\."),
        "DiffVC": (r"decoder\.estimator\.",),
        "MusER": (r"^VQ\.|subDecoder|type_decoder",),
        "FLAME": (r"^shapedirs$", r"^v_template$"),
        "GPT or another language model": (
            r"\.(self_attn|attention)\.q_proj\.|^transformer\.h\.0\.",
            r"lm_head|embed_tokens|wte",
        ),
    }
)

EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "audeering-vad": "wav2vec 2.0 with a regression head",
        "wav2vec2-base-960h": "wav2vec 2.0, HuBERT or their like",
        "whisper-tiny": "Whisper",
    }
)
"""What the files that are kept as they are must be."""


def named_architecture(keys: Iterable[str]) -> str:
    """The known network with such tensor names, in words, or an empty text."""
    names = list(keys)
    for what, patterns in SIGNS.items():
        if all(any(re.search(pattern, name) for name in names) for pattern in patterns):
            return what
    return ""


def check_architecture(weight_id: str, keys: Iterable[str], where: str) -> None:
    """Raise InvalidInputError when a file that is kept as it is holds another known network than its id says."""
    expected = EXPECTED.get(weight_id)
    if expected is None:
        return
    found = named_architecture(keys)
    if found != expected:
        known = f"holds {found}" if found else "holds a network that affetto does not know"
        raise InvalidInputError(
            f"{where}: {known}, not the weights {weight_id!r} ({expected}): give the right file"
        )
