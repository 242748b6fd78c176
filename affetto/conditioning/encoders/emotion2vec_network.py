"""emotion2vec (Ma et al., arXiv 2312.15185): sound -> states of a data2vec transformer -> nine classes.

Convolutions hear 20 ms at a time; learned tokens stand before the frames; two stacks of post-norm blocks with ALiBi follow
each other and are one here. Every size is told by the shapes in a published file, so `base` and `large` need no table.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from affetto.runtime.errors import InvalidInputError
from affetto.weights.tensors import check_layout

FORMAT = "emotion2vec-1"
_STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of wav2vec's front end, which no tensor tells

_KEYS = (  # published names, with or without the `d2v_model.` of fine-tuned files, and ours
    (r"modality_encoders\.AUDIO\.local_encoder\.conv_layers\.(\d+)\.0\.weight", r"waves.\1.hear.weight"),
    (r"modality_encoders\.AUDIO\.local_encoder\.conv_layers\.(\d+)\.2\.1\.(\w+)", r"waves.\1.norm.\2"),
    (r"modality_encoders\.AUDIO\.project_features\.1\.(\w+)", r"heard.\1"),
    (r"modality_encoders\.AUDIO\.project_features\.2\.(\w+)", r"widen.\1"),
    (r"modality_encoders\.AUDIO\.context_encoder\.norm\.(\w+)", r"norm.\1"),
    (r"modality_encoders\.AUDIO\.extra_tokens", r"tokens"),
    (r"modality_encoders\.AUDIO\.alibi_scale", r"reach"),
    (r"proj\.(\w+)", r"classes.\1"),
)
_PLACE = r"modality_encoders\.AUDIO\.relative_positional_encoder\.(\d+)\.0\.(\w+)"
_BLOCK = r"(modality_encoders\.AUDIO\.context_encoder\.)?blocks\.(\d+)\.(norm1|attn\.qkv|attn\.proj|norm2|mlp\.fc1|mlp\.fc2)\.(\w+)"
_PARTS = {"norm1": "norm_a", "attn.qkv": "qkv", "attn.proj": "out", "norm2": "norm_b", "mlp.fc1": "up", "mlp.fc2": "down"}  # fmt: skip
_HEARING = (
    r"(modality_encoders\.AUDIO\.(?!decoder\.)|blocks\.|norm\.)"  # what else would change what is heard
)


@dataclass(frozen=True, kw_only=True)
class Emotion2vecConfig:
    """Sizes of a network; the defaults are those of `base` and `plus_base`."""

    width: int = 768
    blocks: int = 12  # of both stacks
    heads: int = 12
    hidden: int = 3072
    tokens: int = 10  # learned ones before the frames
    places: int = 5  # convolutions that tell where a frame is
    place_kernel: int = 19
    place_groups: int = 16
    reaches: int = 1  # ALiBi is scaled once, or for each block
    wave_width: int = 512
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = _STRIDES
    classes: int = 9

    def __post_init__(self) -> None:
        if self.width % self.heads or len(self.kernels) != len(self.strides):
            raise InvalidInputError("emotion2vec: sizes that do not fit together: these are other weights")

    def to_json(self) -> str:
        """The sizes as text for a file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Emotion2vecConfig":
        """The sizes that `to_json` wrote."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, sizes: Mapping[str, Any]) -> "Emotion2vecConfig":
        """The sizes that JSON told, whose rows are lists."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()
        }
        return cls(**values)

    @property
    def fewest_samples(self) -> int:
        """How many samples make one frame."""
        count = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            count = (count - 1) * stride + kernel
        return count


class _Wave(nn.Module):
    """A convolution over time, layer norm over channels, GELU."""

    def __init__(self, given: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.hear = nn.Conv1d(given, width, kernel, stride, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "clip given sample"]) -> Float[Tensor, "clip width frame"]:
        return F.gelu(self.norm(self.hear(x).transpose(1, 2)).transpose(1, 2))


class _Place(nn.Module):
    """A grouped convolution over frames, unit norm, GELU: where a frame is among its neighbours."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x: Float[Tensor, "clip width frame"]) -> Float[Tensor, "clip width frame"]:
        y = self.conv(x)[..., : x.shape[-1]]  # an even kernel gives one too many
        return F.gelu(F.layer_norm(y.transpose(1, 2), (y.shape[1],)).transpose(1, 2))


class _Block(nn.Module):
    """Attention with a bias for distance and a feed-forward layer, each normed after it is added (post-norm)."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm_a = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.norm_b = nn.LayerNorm(config.width)

    def forward(
        self, x: Float[Tensor, "clip frame width"], distance: Float[Tensor, "1 head frame frame"]
    ) -> Float[Tensor, "clip frame width"]:
        q, k, v = rearrange(self.qkv(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=distance.to(q.dtype))
        x = self.norm_a(x + self.out(rearrange(seen, "b h t d -> b t (h d)")))
        return self.norm_b(x + self.down(F.gelu(self.up(x))))


class Emotion2vecNetwork(nn.Module):
    """Sound at 16 kHz, zero mean and unit variance, to frame states and class logits of the whole clip."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.config = config
        widths = [1] + [config.wave_width] * len(config.kernels)
        self.waves = nn.ModuleList(
            _Wave(widths[i], widths[i + 1], kernel, stride)
            for i, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True))
        )
        self.heard = nn.LayerNorm(config.wave_width)
        self.widen = nn.Linear(config.wave_width, config.width)
        self.places = nn.ModuleList(
            _Place(config.width, config.place_kernel, config.place_groups) for _ in range(config.places)
        )
        self.tokens = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.reach = nn.Parameter(torch.ones(config.reaches, 1, config.heads, 1, 1))
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.classes = nn.Linear(config.width, config.classes)

    def forward(
        self, waveform: Float[Tensor, "clip sample"]
    ) -> tuple[Float[Tensor, "clip class"], Float[Tensor, "clip frame width"]]:
        """Logits of the classes and the states of the frames, 50 a second."""
        x = waveform[:, None]
        for wave in self.waves:
            x = wave(x)
        x = self.widen(self.heard(x.transpose(1, 2)))
        placed = x.transpose(1, 2)
        for place in self.places:
            placed = place(placed)
        x = x + placed.transpose(1, 2)
        bias = self._distances(x.shape[1], x.device)
        x = self.norm(torch.cat([repeat(self.tokens, "1 n d -> b n d", b=len(x)), x], dim=1))
        reach = self.reach.clamp_min(0)
        for index, block in enumerate(self.blocks):
            x = block(x, bias * reach[index if len(reach) > 1 else 0])
        frames = x[:, self.config.tokens :]
        return self.classes(frames.mean(1)), frames

    def _distances(self, frames: int, device: torch.device) -> Float[Tensor, "1 head place place"]:
        """ALiBi's bias for each head: minus the distance of two frames times the head's slope; 0 with the learned tokens."""
        at = torch.arange(frames, device=device, dtype=torch.float32)
        slopes = torch.tensor(alibi_slopes(self.config.heads), device=device)
        bias = -(at[:, None] - at[None]).abs() * slopes[:, None, None]
        return F.pad(bias, (self.config.tokens, 0, self.config.tokens, 0))[None]


def alibi_slopes(heads: int) -> list[float]:
    """The slope of each head (Press et al. 2022): a geometric row, filled from the next finer one between powers of two."""
    whole = 2 ** math.floor(math.log2(heads))
    row = [2.0 ** (-8.0 * (i + 1) / whole) for i in range(whole)]
    return row if whole == heads else row + alibi_slopes(2 * whole)[0::2][: heads - whole]


def convert_emotion2vec(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A published `model.pt` (base, plus_seed, plus_base, plus_large) as ours, without what only training needs.

    Raises InvalidInputError for files without classes, pre-norm stacks and names that would change what is heard.
    """
    bare = {key.removeprefix("d2v_model."): value for key, value in tensors.items()}
    ours, unknown = _renamed(bare)
    if any(key.startswith("norm.") for key in bare):
        raise InvalidInputError(
            "emotion2vec with norms before its layers is not supported: these are other weights"
        )
    if unknown:
        raise InvalidInputError(f"emotion2vec: key {unknown[0]!r} is unknown: these are other weights")
    if "classes.weight" not in ours:
        raise InvalidInputError(
            "emotion2vec without classes (no proj.weight) names no emotion: take emotion2vec_plus_base or plus_large"
        )
    config = _config_of(ours)
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in Emotion2vecNetwork(config).state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in ours.items()}, expected, "emotion2vec")
    return ours, {"format": FORMAT, "config": config.to_json()}


def _renamed(bare: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under our names, and the published names that have none but should."""
    before = [int(m[2]) for key in bare if (m := re.fullmatch(_BLOCK, key)) and m[1]]
    first = max(before) + 1 if before else 0  # the stack of the audio encoder comes before the common one
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in bare.items():
        if match := re.fullmatch(_BLOCK, key):
            number = int(match[2]) + (0 if match[1] else first)
            ours[f"blocks.{number}.{_PARTS[match[3]]}.{match[4]}"] = value
        elif match := re.fullmatch(_PLACE, key):
            ours[f"places.{int(match[1]) - 1}.conv.{match[2]}"] = value
        else:
            rule = next(((old, new) for old, new in _KEYS if re.fullmatch(old, key)), None)
            if rule is not None:
                ours[re.sub(rule[0], rule[1], key)] = value
            elif re.match(_HEARING, key):
                unknown.append(key)
    if "reach" in ours and ours["reach"].ndim == 4:  # older files
        ours["reach"] = ours["reach"][None]
    return {key: value.detach().float().contiguous() for key, value in ours.items()}, unknown


def _config_of(ours: Mapping[str, Tensor]) -> Emotion2vecConfig:
    """The sizes that the shapes tell; raises InvalidInputError when a tensor that tells one is missing."""

    def shape(key: str) -> tuple[int, ...]:
        if key not in ours:
            raise InvalidInputError(f"emotion2vec: key {key!r} is missing: these are other weights")
        return tuple(ours[key].shape)

    def count(name: str) -> int:
        return len({key.split(".")[1] for key in ours if key.startswith(f"{name}.")})

    place, reach = shape("places.0.conv.weight"), shape("reach")
    return Emotion2vecConfig(
        width=shape("widen.weight")[0],
        blocks=count("blocks"),
        heads=reach[2],
        hidden=shape("blocks.0.up.weight")[0],
        tokens=shape("tokens")[1],
        places=count("places"),
        place_kernel=place[2],
        place_groups=place[0] // place[1],
        reaches=reach[0],
        wave_width=shape("waves.0.hear.weight")[0],
        kernels=tuple(shape(f"waves.{i}.hear.weight")[2] for i in range(count("waves"))),
        classes=shape("classes.weight")[0],
    )
