"""The other prior of the portrait's motion, after SynchroRaMa's audio-to-motion module (arXiv 2509.19965): a flow-VAE.

A convolutional VAE whose prior is a volume-preserving flow (residual couplings with flips, as in PortaSpeech and
GeneFace), both told what is said and felt. One pass draws a window. The paper shows the shape of the module and no
sizes; weights of the losses follow the public recipe of Real3D-Portrait (0.02 for the divergence).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affetto.acting.adapter import WIDTH as FEATURES
from affetto.generators.portrait.motion_net import CONTENT_WIDTH
from affetto.generators.portrait.motion_sampling import Constrain, Guidance
from affetto.generators.portrait.motion_space import CHANNELS, STYLE, WINDOW
from affetto.runtime.device import autocast
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import read_arrays, save_tensors

FACTOR = 4  # frames for each latent


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Sizes."""

    width: int = 160
    latent: int = 16
    couplings: int = 4
    depth: int = 4  # convolutions in the encoder and in the decoder

    def to_metadata(self) -> dict[str, str]:
        """The sizes as text, for the header of a weight file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "VaeConfig":
        """The sizes that a weight file's header tells."""
        return cls(**{name: int(metadata[name]) for name in asdict(cls()) if name in metadata})


class _Convolutions(nn.Module):
    """WaveNet's gated residual convolutions, told something at every layer."""

    def __init__(self, width: int, told: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Conv1d(width, 2 * width, 5, padding=2 * 2**i, dilation=2**i) for i in range(depth)]
        )
        self.tell = nn.ModuleList([nn.Conv1d(told, 2 * width, 1) for _ in range(depth)])
        self.back = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(depth)])

    def forward(
        self, hidden: Float[Tensor, "window width step"], told: Float[Tensor, "window told step"]
    ) -> Float[Tensor, "window width step"]:
        """What came in and what each layer adds."""
        for layer, tell, back in zip(self.layers, self.tell, self.back, strict=True):
            gate, value = (layer(hidden) + tell(told)).chunk(2, dim=1)
            hidden = hidden + back(torch.sigmoid(gate) * torch.tanh(value))
        return hidden


class _Coupling(nn.Module):
    """One half moved by what the other half says: volume stays, and the inverse is a minus sign."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(latent // 2, width, 1)
        self.middle = _Convolutions(width, width, 2)
        self.leave = nn.Conv1d(width, latent // 2, 1)
        for parameter in self.leave.parameters():  # at first nothing moves
            nn.init.zeros_(parameter)

    def forward(
        self, z: Float[Tensor, "window latent step"], told: Float[Tensor, "window width step"], sign: float
    ) -> Float[Tensor, "window latent step"]:
        """The moved latents; `sign` -1 undoes +1."""
        first, second = z.chunk(2, dim=1)
        return torch.cat([first, second + sign * self.leave(self.middle(self.enter(first), told))], dim=1)


class FlowVae(nn.Module):
    """Windows of normalised motion as latents of four frames, with a prior that hears and feels."""

    mean: Tensor
    scale: Tensor
    live: Tensor

    def __init__(self, config: VaeConfig | None = None) -> None:
        super().__init__()
        self.config = sizes = config or VaeConfig()
        width = sizes.width
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("scale", torch.ones(CHANNELS))
        self.register_buffer("live", torch.ones(CHANNELS))
        self.hear = nn.Sequential(
            nn.Conv1d(CONTENT_WIDTH, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.GELU(), nn.Conv1d(width, width, 5, padding=2), nn.GELU(),
        )  # fmt: skip
        self.join = nn.Conv1d(width + FEATURES + len(STYLE) + CHANNELS + 1, width, 3, padding=1)
        self.coarsen = nn.Conv1d(width, width, FACTOR, stride=FACTOR)
        self.enter = nn.Conv1d(CHANNELS, width, 3, padding=1)
        self.encoder = _Convolutions(width, width, sizes.depth)
        self.gaussian = nn.Conv1d(width, 2 * sizes.latent, FACTOR, stride=FACTOR)
        self.couplings = nn.ModuleList([_Coupling(sizes.latent, width // 2) for _ in range(sizes.couplings)])
        self.tell_prior = nn.Conv1d(width, width // 2, 1)
        self.spread = nn.Conv1d(sizes.latent, width, 1)
        self.decoder = _Convolutions(width, width, sizes.depth)
        self.leave = nn.Conv1d(width, CHANNELS, 3, padding=1)

    def normalised(self, motion: Float[Tensor, "*item 58"]) -> Float[Tensor, "*item 58"]:
        """Motion with zero mean and unit variance where it lives, 0 elsewhere."""
        return (motion - self.mean) / self.scale * self.live

    def restored(self, motion: Float[Tensor, "*item 58"]) -> Float[Tensor, "*item 58"]:
        """The inverse of `normalised`."""
        return motion * self.live * self.scale + self.mean

    def told(
        self,
        content: Float[Tensor, "window row content"],
        features: Float[Tensor, "window 64 12"],
        style: Float[Tensor, "window 11"],
        known: Float[Tensor, "window 64 58"],
        is_known: Bool[Tensor, "window 64"],
    ) -> Float[Tensor, "window width 64"]:
        """Speech, emotion, performer and known frames (normalised), frame by frame."""
        heard = self.hear(rearrange(content, "b r c -> b c r"))
        spare = (heard.shape[-1] - WINDOW) // 2
        flags = is_known[..., None].to(known.dtype)
        worn = style[:, None].expand(-1, WINDOW, -1)
        rest = torch.cat([features, worn, known * flags, flags], dim=-1)
        return self.join(
            torch.cat([heard[..., spare : spare + WINDOW], rearrange(rest, "b t c -> b c t")], dim=1)
        )

    def encode(
        self, motion: Float[Tensor, "window 64 58"], told: Float[Tensor, "window width 64"]
    ) -> tuple[Float[Tensor, "window latent 16"], Float[Tensor, "window latent 16"]]:
        """Mean and log variance of the latents of normalised motion."""
        hidden = self.encoder(self.enter(rearrange(motion, "b t c -> b c t")), told)
        mean, log_variance = self.gaussian(hidden).chunk(2, dim=1)
        return mean, log_variance.clamp(-8.0, 3.0)

    def to_noise(
        self, z: Float[Tensor, "window latent 16"], told: Float[Tensor, "window width 64"]
    ) -> Float[Tensor, "window latent 16"]:
        """What the prior takes for standard noise."""
        coarse = self.tell_prior(self.coarsen(told))
        for coupling in self.couplings:
            z = coupling(z, coarse, 1.0).flip(1)
        return z

    def from_noise(
        self, noise: Float[Tensor, "window latent 16"], told: Float[Tensor, "window width 64"]
    ) -> Float[Tensor, "window latent 16"]:
        """The inverse of `to_noise`."""
        coarse = self.tell_prior(self.coarsen(told))
        for coupling in reversed(self.couplings):
            noise = coupling(noise.flip(1), coarse, -1.0)
        return noise

    def decode(
        self, z: Float[Tensor, "window latent 16"], told: Float[Tensor, "window width 64"]
    ) -> Float[Tensor, "window 64 58"]:
        """Normalised motion."""
        hidden = self.decoder(F.interpolate(self.spread(z), scale_factor=FACTOR, mode="linear") + told, told)
        return rearrange(self.leave(hidden), "b c t -> b t c") * self.live


def divergence(
    mean: Float[Tensor, "window latent 16"],
    log_variance: Float[Tensor, "window latent 16"],
    drawn: Float[Tensor, "window latent 16"],
    noise: Float[Tensor, "window latent 16"],
) -> Float[Tensor, ""]:
    """KL(q || flow prior) by one draw, per latent: log q(drawn) - log N(noise), the flow's volume being 1."""
    log_q = -0.5 * (log_variance + (drawn - mean).square() / log_variance.exp() + math.log(2 * math.pi))
    log_p = -0.5 * (noise.square() + math.log(2 * math.pi))
    return (log_q - log_p).mean()


@dataclass(frozen=True)
class VaeSampler:
    """Draws windows with a `FlowVae` in one pass; guidance has no meaning for it, constraints are imposed once."""

    net: FlowVae
    device: torch.device
    dtype: torch.dtype = torch.float32
    temperature: float = 1.0

    def __call__(
        self,
        content: Float[Tensor, "window row content"],
        features: Float[Tensor, "window 64 12"],
        style: Float[Tensor, "window 11"],
        known: Float[Tensor, "window 64 58"],
        is_known: Bool[Tensor, "window 64"],
        white: Float[Tensor, "window 64 58"],
        guidance: Guidance,
        constrain: Constrain,
    ) -> Float[Tensor, "window 64 58"]:
        """See `WindowSampler`."""
        net = self.net
        latent, steps = net.config.latent, WINDOW // FACTOR
        noise = self.temperature * rearrange(white[:, :steps, :latent], "b s l -> b l s")
        with autocast(self.device, self.dtype):
            told = net.told(content, features, style, net.normalised(known), is_known)
            motion = net.decode(net.from_noise(noise, told), told)
        motion = constrain(net.restored(motion.float()))
        return torch.where(is_known[..., None], known, motion)


def save_vae(path: Path, net: FlowVae, metadata: Mapping[str, str]) -> None:
    """Write the network in half precision, its sizes in the header."""
    tensors = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_tensors(path, tensors, {**net.config.to_metadata(), **metadata})


def load_vae(path: Path) -> tuple[FlowVae, Mapping[str, str]]:
    """The network that `save_vae` wrote, in fp32, and what the header tells; raises InvalidInputError otherwise."""
    arrays, metadata = read_arrays(path)
    net = FlowVae(VaeConfig.from_metadata(metadata))
    try:
        net.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
    except RuntimeError as error:
        raise InvalidInputError(f"{path}: not the weights of a flow-VAE: train them again") from error
    return net, metadata
