"""`ResidualFlow`: the embedded network that says how this sentence would move under an emotion, frame by frame."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from einops import rearrange
from jaxtyping import Float, Float32
from scipy.ndimage import convolve1d

from affetto.generators.voice.controls import WIDTH, VoiceControls
from affetto.generators.voice.pairs import GROUPS
from affetto.generators.voice.residual_net import FACTOR, ResidualConfig, ResidualNet
from affetto.generators.voice.speaker import SpeakerStatistics, normalised
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights.store import read_arrays, save_tensors, weight_path

WEIGHTS = "voice-residual"
STEPS = (1, 64)
_BLOCK = 256  # frames drawn together
_NOISE_SIGMA = 5.0  # frames: the walk starts from noise as slow as residuals are

_PUSHED = (0.5, 0.0, 1.0, 1.0, 0.0)
"""How far a push counts for pitch, energy, envelope, noise and rate: loudness and tempo, exaggerated, hide the words."""

OnStep = Callable[[int, int], None]


def noise_kernel() -> Float[np.ndarray, "tap"]:
    """The filter that makes white noise slow and keeps its variance."""
    reach = int(4 * _NOISE_SIGMA)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _NOISE_SIGMA) ** 2)
    return taps / np.sqrt(np.square(taps).sum())


def frame_noise(seed: int, start: int, frames: int) -> Float32[np.ndarray, "frame 30"]:
    """Slow Gaussian noise of unit variance for the frames from `start` on: the same for a frame wherever it is asked."""
    kernel = noise_kernel()
    reach = len(kernel) // 2
    first, last = start - reach, start + frames + reach
    blocks = [_white(seed, block) for block in range(first // _BLOCK, (last - 1) // _BLOCK + 1)]
    white = np.concatenate(blocks)[first % _BLOCK :][: last - first]
    return convolve1d(white, kernel, axis=0)[reach : reach + frames].astype(np.float32)


def _white(seed: int, block: int) -> Float[np.ndarray, "frame 30"]:
    side = [0, block] if block >= 0 else [1, -block]
    return np.random.default_rng([seed, *side]).standard_normal((_BLOCK, WIDTH))


def _pushed() -> Float[np.ndarray, "30"]:
    return np.repeat(_PUSHED, [columns.stop - columns.start for columns in GROUPS])


class ResidualFlow:
    """A voice's controls, where its emotion stands and where it shall go -> the residual that takes it there.

    The residual is that of full strength; the caller scales it. What a window gives depends on its own frames and a
    seed, so that windows with a margin agree with the whole to within what lies beyond the margin.
    """

    def __init__(self, net: ResidualNet, *, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.net = net.to(device).eval()
        self.device = device
        self.dtype = dtype

    @classmethod
    def from_pretrained(
        cls, name: str = "embedded", *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
    ) -> "ResidualFlow":
        """Load the `embedded` weights, or a safetensors file that `affetto train voice-residual` wrote."""
        if name == "embedded":
            path = weight_path(WEIGHTS)
        elif Path(name).suffix == ".safetensors":
            path = Path(name)
        else:
            raise MissingResourceError(
                f"no voice residuals {name!r} here: use 'embedded' or a .safetensors file"
            )
        where = resolve_device(device)
        return cls(load_net(path), device=where, dtype=resolve_dtype(dtype, where))

    @torch.inference_mode()
    def __call__(
        self,
        controls: VoiceControls,
        speaker: SpeakerStatistics,
        *,
        mean: Float[np.ndarray, "frame 30"],
        place: Float[np.ndarray, "256"],
        target: Float[np.ndarray, "frame 256"],
        away: Float[np.ndarray, "frame 256"] | None = None,
        push: Float[np.ndarray, "frame"] | None = None,
        seed: int = 0,
        start: int = 0,
        steps: int = 6,
        temperature: float = 0.5,
        on_step: OnStep | None = None,
    ) -> Float32[np.ndarray, "frame 30"]:
        """The residual at full strength: `mean` (the prior mean) plus what the flow finds in `steps` Euler steps.

        `place` is the embedding of the source, `target` where it shall stand in each frame; the network reads the emotion
        off these alone. Every step also goes away from what it would do for the embeddings `away`, `push` times as far
        as the two differ (after classifier-free guidance, Ho and Salimans 2022). `temperature` scales the noise of the
        start (0: the likeliest course, 1: as varied as people are); `start` is the absolute number of the first frame,
        which chooses its noise.
        """
        if not STEPS[0] <= steps <= STEPS[1]:
            raise UsageError(f"steps must lie in {STEPS[0]}..{STEPS[1]}, got {steps}")
        frames = len(controls)
        if frames == 0:
            return np.zeros((0, WIDTH), np.float32)
        spare = -frames % FACTOR
        told = {
            "source": self._batch(normalised(controls, speaker), spare),
            "mean": torch.zeros(1, (frames + spare) // FACTOR, WIDTH, device=self.device),
            "speaker": torch.from_numpy(speaker.vector())[None].to(self.device),
            "place": torch.from_numpy(place.astype(np.float32))[None].to(self.device),
            "target": self._tokens(target, spare),
        }
        other, hard = None, torch.zeros(1, 1, 1, device=self.device)
        if away is not None and push is not None and np.any(push):
            other, hard = (
                {**told, "target": self._tokens(away, spare)},
                self._batch(push[:, None] * _pushed(), spare),
            )
        noise = temperature * frame_noise(seed, start, frames + spare)
        x = torch.from_numpy(noise.astype(np.float32))[None].to(self.device)
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist(), device=self.device)
        for step, timestep in enumerate(cast(torch.FloatTensor, scheduler.timesteps)):
            sigma = timestep.reshape(1) / scheduler.config["num_train_timesteps"]
            with autocast(self.device, self.dtype):
                velocity = self.net(x, sigma, **told)
                if other is not None:
                    velocity = velocity + hard * (velocity - self.net(x, sigma, **other))
            x = scheduler.step(velocity.float(), timestep, x, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
            if on_step is not None:
                on_step(step + 1, steps)
        found = (x[0] * self.net.scale).float().cpu().numpy()[:frames]
        return (mean + found).astype(np.float32)

    def _batch(self, rows: Float[np.ndarray, "frame width"], spare: int) -> torch.Tensor:
        padded = np.pad(rows.astype(np.float32), ((0, spare), (0, 0)), mode="edge")
        return torch.from_numpy(padded)[None].to(self.device)

    def _tokens(self, rows: Float[np.ndarray, "frame width"], spare: int) -> torch.Tensor:
        return rearrange(self._batch(rows, spare), "b (t n) w -> b t n w", n=FACTOR).mean(dim=2)


def save_net(path: Path, net: ResidualNet, metadata: Mapping[str, str]) -> None:
    """Write the network in half precision, its sizes in the header."""
    tensors = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_tensors(path, tensors, {**net.config.to_metadata(), **metadata})


def load_net(path: Path) -> ResidualNet:
    """The network that `save_net` wrote, in fp32; raises InvalidInputError when the file holds something else."""
    arrays, metadata = read_arrays(path)
    net = ResidualNet(ResidualConfig.from_metadata(metadata))
    try:
        net.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
    except RuntimeError as error:
        raise InvalidInputError(f"{path}: not the weights of voice residuals: train them again") from error
    return net
