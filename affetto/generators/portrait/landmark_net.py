"""The network that finds 68 points in a picture of a face, how sure it is of each, how the head is turned, and if it is one."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import read_arrays, weight_path

POINTS = 68


@dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """Sizes of the network; `side` is the picture's in pixels."""

    side: int = 112
    widths: tuple[int, int, int, int] = (16, 36, 72, 128)
    maps: int = 48  # channels of the finest features, a quarter of `side` on a side

    def to_metadata(self) -> dict[str, str]:
        """The configuration as safetensors metadata."""
        return {"config": json.dumps(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> "LandmarkConfig":
        """The configuration that `to_metadata` wrote."""
        values = json.loads(metadata["config"])
        return cls(**{**values, "widths": tuple(values["widths"])})


@dataclass(frozen=True, kw_only=True)
class LandmarkOutput:
    """What the network says of each picture.

    `points` are 0..1 across the picture (0 and 1 are its edges); `log_scale` is the logarithm of the Laplace scale in the
    same unit; `pose` is (yaw, pitch, roll) in radians; `presence` is the logit of there being a face.
    """

    points: Float[Tensor, "batch 68 2"]
    log_scale: Float[Tensor, "batch 68 2"]
    pose: Float[Tensor, "batch 3"]
    presence: Float[Tensor, "batch"]
    maps: Float[Tensor, "batch 68 row column"]


class Residual(nn.Module):
    """Two 3x3 convolutions with a bypass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.norm = nn.BatchNorm2d(width)

    def forward(
        self, x: Float[Tensor, "batch channel row column"]
    ) -> Float[Tensor, "batch channel row column"]:
        """The input and what the convolutions add to it."""
        return F.relu(x + self.norm(self.body(x)))


class LandmarkNet(nn.Module):
    """An encoder down to a sixteenth of the picture, back up to a quarter, and one map of likelihood for each point.

    Points are the maps' means (soft-argmax; Sun et al. 2018), corrected by what the features at each point and of the whole
    picture say; from the same features come the scales.
    """

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LandmarkConfig()
        a, b, c, d = config.widths
        self.quarter = nn.Sequential(_conv(3, a, 2), _conv(a, b, 2), Residual(b))
        self.eighth = nn.Sequential(_conv(b, c, 2), Residual(c), Residual(c))
        self.sixteenth = nn.Sequential(_conv(c, d, 2), Residual(d), Residual(d))
        self.down = nn.Conv2d(d, c, 1)
        self.middle = _conv(c, c)
        self.narrow = nn.Conv2d(c, config.maps, 1)
        self.lateral = nn.Conv2d(b, config.maps, 1)
        self.fine = _conv(config.maps, config.maps)
        self.likelihood = nn.Conv2d(config.maps, POINTS, 1)
        self.whole = nn.Linear(d, config.maps)
        self.names = nn.Parameter(0.02 * torch.randn(POINTS, config.maps))
        last = nn.Linear(64, 4)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correct = nn.Sequential(nn.Linear(config.maps, 64), nn.ReLU(), last)
        self.global_ = nn.Linear(d, 4)

    @classmethod
    def from_pretrained(cls, name: str | Path = "embedded") -> "LandmarkNet":
        """The embedded network, or one in a safetensors file written by `affetto train portrait-landmarks`."""
        path = weight_path("portrait-landmarks") if name == "embedded" else Path(name)
        arrays, metadata = read_arrays(path)
        if "config" not in metadata:
            raise InvalidInputError(f"{path}: holds no landmark network: name the file the recipe wrote")
        network = cls(LandmarkConfig.from_metadata(metadata))
        missing = network.load_state_dict(
            {key: torch.from_numpy(values).float() for key, values in arrays.items()}, strict=False
        )
        if missing.unexpected_keys or any(
            not key.endswith("num_batches_tracked") for key in missing.missing_keys
        ):
            raise InvalidInputError(f"{path}: is another network: train it again")
        return network.eval()

    def forward(self, pictures: Float[Tensor, "batch 3 side side"]) -> LandmarkOutput:
        """What is seen in pictures with values -1..1."""
        quarter = self.quarter(pictures)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        middle = self.middle(F.relu(eighth + _doubled(self.down(sixteenth))))
        fine = self.fine(F.relu(self.lateral(quarter) + _doubled(self.narrow(middle))))
        logits = self.likelihood(fine).float()
        share = rearrange(logits, "b p h w -> b p (h w)").softmax(dim=-1)
        points = _means(rearrange(share, "b p (h w) -> b p h w", h=logits.shape[2]))
        pooled = reduce(sixteenth, "b c h w -> b c", "mean")
        here = einsum(share.to(fine.dtype), rearrange(fine, "b c h w -> b c (h w)"), "b p n, b c n -> b p c")
        known = here + self.whole(pooled)[:, None] + self.names
        more = self.correct(known).float()
        rest = self.global_(pooled).float()
        return LandmarkOutput(
            points=points + 0.1 * more[..., :2],
            log_scale=(more[..., 2:] - 4.0).clamp(-7.0, 0.0),
            pose=rest[:, :3],
            presence=rest[:, 3],
            maps=logits,
        )


def _conv(wide_in: int, wide_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide_in, wide_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(wide_out),
        nn.ReLU(inplace=True),
    )


def _doubled(x: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch channel row2 column2"]:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _means(share: Float[Tensor, "batch point row column"]) -> Float[Tensor, "batch point 2"]:
    """The mean place of each map, 0..1 across the picture."""
    height, width = share.shape[2:]
    x = (torch.arange(width, device=share.device) + 0.5) / width
    y = (torch.arange(height, device=share.device) + 0.5) / height
    return torch.stack([einsum(share, x, "b p h w, w -> b p"), einsum(share, y, "b p h w, h -> b p")], dim=-1)
