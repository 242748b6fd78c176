"""From noise to a window of motion: Euler steps along the flow, two guidance scales, and a word for the constraints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from jaxtyping import Bool, Float
from torch import Tensor

from affetto.acting.lip_gap import LinearGap
from affetto.generators.portrait.motion_net import Conditions, MotionNet
from affetto.generators.portrait.motion_space import CHANNELS, SHAPES, SHIFT
from affetto.runtime.device import autocast
from affetto.runtime.errors import UsageError

STEPS = (1, 64)

Constrain = Callable[[Float[Tensor, "window 64 58"]], Float[Tensor, "window 64 58"]]
"""Motion in its own units -> the nearest motion that is allowed."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How hard a performance follows speech and emotion; 1 is what the data show, 0 ignores the one or the other."""

    audio: float = 2.0
    emotion: float = 1.5
    steps: int = 8

    def __post_init__(self) -> None:
        for name in ("audio", "emotion"):
            if not 0 <= getattr(self, name) <= 10:
                raise UsageError(f"{name} guidance lies in 0..10, got {getattr(self, name):g}")
        if not STEPS[0] <= self.steps <= STEPS[1]:
            raise UsageError(f"steps must lie in {STEPS[0]}..{STEPS[1]}, got {self.steps}")


def guided(
    free: Float[Tensor, "window 64 58"],
    spoken: Float[Tensor, "window 64 58"],
    felt: Float[Tensor, "window 64 58"],
    guidance: Guidance,
    aperture: Float[Tensor, "58"],
) -> Float[Tensor, "window 64 58"]:
    """v0 + ga (va - v0) + ge (vae - va), nested, from what knows nothing, speech, and speech and emotion.

    What guidance adds to the emotion beyond the data (ge - 1) is kept off `aperture`, the unit direction along which the
    lips part, so that more emotion does not cost closures. At 1 and 1 the result is `felt`.
    """
    push = felt - spoken
    beyond = (guidance.emotion - 1.0) * push
    beyond = beyond - (beyond @ aperture)[..., None] * aperture
    return free + guidance.audio * (spoken - free) + push + beyond


@runtime_checkable
class WindowSampler(Protocol):
    """A model that draws windows of motion: the flow, or the flow-VAE."""

    def __call__(
        self,
        content: Float[Tensor, "window row width"],
        features: Float[Tensor, "window 64 12"],
        style: Float[Tensor, "window 11"],
        known: Float[Tensor, "window 64 58"],
        is_known: Bool[Tensor, "window 64"],
        white: Float[Tensor, "window 64 58"],
        guidance: Guidance,
        constrain: Constrain,
    ) -> Float[Tensor, "window 64 58"]:
        """Motion in its own units; `known` frames come back as they went in."""
        ...


@dataclass(frozen=True)
class FlowSampler:
    """Draws windows with a `MotionNet`; the three branches of guidance run as one batch."""

    net: MotionNet
    aperture: Float[Tensor, "58"]
    device: torch.device
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(
        cls, net: MotionNet, gap: LinearGap, *, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> "FlowSampler":
        """The sampler of a network, for lips that part as `gap` says."""
        net = net.to(device).eval()
        direction = torch.zeros(CHANNELS, device=device)
        direction[SHAPES] = gap.gain.to(direction) * (net.scale * net.live)[SHAPES]
        return cls(net, direction / direction.norm().clamp_min(1e-9), device, dtype)

    def __call__(
        self,
        content: Float[Tensor, "window row width"],
        features: Float[Tensor, "window 64 12"],
        style: Float[Tensor, "window 11"],
        known: Float[Tensor, "window 64 58"],
        is_known: Bool[Tensor, "window 64"],
        white: Float[Tensor, "window 64 58"],
        guidance: Guidance,
        constrain: Constrain,
    ) -> Float[Tensor, "window 64 58"]:
        """See `WindowSampler`. After every estimate of the clean motion, known frames and constraints are imposed on it."""
        net, windows = self.net, len(white)
        branches = 3 if (guidance.audio, guidance.emotion) != (1.0, 1.0) else 1
        with autocast(self.device, self.dtype):
            conditions = _branches(net, content, features, style, branches)
        known_normal = net.normalised(known) * is_known[..., None]
        x = net.noise(white)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
        scheduler.set_timesteps(sigmas=_sigmas(guidance.steps), device=self.device)
        motion = known
        for timestep in cast(torch.FloatTensor, scheduler.timesteps):
            sigma = timestep.reshape(1) / scheduler.config["num_train_timesteps"]
            with autocast(self.device, self.dtype):
                velocity, _ = net(
                    x.repeat(branches, 1, 1),
                    sigma.expand(branches * windows),
                    conditions,
                    known_normal.repeat(branches, 1, 1),
                    is_known.repeat(branches, 1),
                )
            velocity = velocity.float()
            if branches == 3:
                velocity = guided(*velocity.chunk(3), guidance, self.aperture)
            motion = constrain(net.restored(x - sigma * velocity))
            motion = torch.where(is_known[..., None], known, motion)
            velocity = (x - net.normalised(motion)) / sigma
            x = scheduler.step(velocity, timestep, x, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
        return motion


def _branches(
    net: MotionNet,
    content: Float[Tensor, "window row width"],
    features: Float[Tensor, "window 64 12"],
    style: Float[Tensor, "window 11"],
    branches: int,
) -> Conditions:
    """What knows nothing, speech only, and both, one after another; or the last alone."""
    embedding = net.emotion.prior(features)
    if branches == 1:
        return net.conditions(content, features, embedding, style)
    windows = len(content)
    flags = torch.arange(3, device=content.device).repeat_interleave(windows)
    return net.conditions(
        content.repeat(3, 1, 1),
        features.repeat(3, 1, 1),
        embedding.repeat(3, 1, 1),
        style.repeat(3, 1),
        speech_kept=flags > 0,
        emotion_kept=flags > 1,
    )


def _sigmas(steps: int) -> list[float]:
    return np.linspace(1.0, 1.0 / steps, steps).tolist()
