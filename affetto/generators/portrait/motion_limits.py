"""What a performance must never do, whatever was drawn: lips that miss a bilabial or speak in silence, lids out of time.

Cheap linear forms of these are imposed on every estimate while a window is drawn; `MotionGenerator` shuts the lips
exactly at the end.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import convolve1d, maximum_filter1d
from torch import Tensor, nn

from affetto.acting.adapter import FaceEmotion
from affetto.acting.closure import closing_ease
from affetto.acting.expression import LOWER_FACE, express, hann, mood
from affetto.acting.lip_gap import LinearGap
from affetto.acting.liveliness import blink_curve
from affetto.generators.portrait.motion_space import (
    BLINK,
    CHANNELS,
    FPS,
    GAZE,
    HEAD,
    ROWS_PER_FRAME,
    SHAPES,
    WINDOW,
)
from affetto.speech.content import CONTENT_FPS, SpeechContent, closure_events

_CLOSED = 0.006  # of the inter-pupil distance
_SHAPE_EASE, _HEAD_EASE = 5, 15  # frames
_SMOOTH_MOUTH, _SMOOTH_UPPER, _SMOOTH_HEAD = 0.7, 1.8, 2.5  # frames, standard deviations of the low-passes
_GAZE_MEDIAN = 9  # frames
_SPARE = 0.010  # by which lips may part farther in silence than the expression asks


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of some frames at 25 frames a second."""

    shut: Bool[np.ndarray, "frame"]  # lips must touch
    quiet: Float[np.ndarray, "frame"]  # 0 speech .. 1 silence
    rest_gap: Float[np.ndarray, "frame"]  # of the expression alone, as a share of the inter-pupil distance
    blink: Float[np.ndarray, "frame"]
    rest_head: Float[np.ndarray, "frame 3"]  # bearing of the emotion
    rest_gaze: Float[np.ndarray, "frame 2"]

    def sliced(self, start: int, stop: int) -> "Limits":
        """The limits of frames `start` to `stop`."""
        return Limits(**{name: getattr(self, name)[start:stop] for name in self.__dataclass_fields__})


def limits_of(
    content: SpeechContent, emotion: FaceEmotion, gap: LinearGap, *, start_s: float, seed: int, blinks: float
) -> Limits:
    """The limits of every other row of 50 Hz speech and emotion whose first row is at `start_s`.

    A frame depends on rows from 0.8 s before to 0.3 s after it.
    """
    bearing = mood(emotion.anchors, emotion.vad)
    still = np.zeros((len(content), 52), np.float32)
    silent = np.zeros(len(content), np.float32)
    resting = express(still, emotion.anchors, emotion.vad, speaking=silent, closure=silent)
    with torch.no_grad():
        rest_gap = gap(torch.from_numpy(resting)[None])[0].numpy()
    talking = convolve1d(content.speaking.astype(np.float64), hann(0.16, CONTENT_FPS), mode="nearest")
    times = start_s + np.arange(len(content)) / CONTENT_FPS
    # a closure between two frames belongs to both
    near = maximum_filter1d(closure_events(content).astype(np.uint8), ROWS_PER_FRAME + 1) > 0
    frames = slice(None, None, ROWS_PER_FRAME)
    return Limits(
        shut=near[frames],
        quiet=np.clip(1.0 - 2.0 * talking, 0.0, 1.0)[frames],
        rest_gap=rest_gap[frames],
        blink=blink_curve(times, bearing, content.speaking, CONTENT_FPS, seed, blinks)[frames],
        rest_head=bearing.head[frames],
        rest_gaze=bearing.gaze[frames],
    )


class Course(nn.Module):
    """Brings estimated motion onto a course that a face could take: as smooth as each part moves, going on from known frames.

    Head, upper face and mouth are low-passed, each as far as its motion allows; gaze, which leaps, by a median. What
    still jumps after the known frames is shifted, less and less: shapes are back on their own course after 0.2 s, the head
    after 0.6 s.
    """

    filters: Tensor
    known: Tensor
    share: Tensor
    ramp: Tensor
    carry: Tensor

    def __init__(self, known: Float[Tensor, "window frame 58"]) -> None:
        super().__init__()
        self.frames = known.shape[1]
        self.register_buffer("known", known)
        self.register_buffer("filters", torch.from_numpy(low_passes()).to(known))
        share = np.zeros((WINDOW - self.frames, CHANNELS), np.float32)
        for channels, reach in ((SHAPES, _SHAPE_EASE), (HEAD, _HEAD_EASE)):
            share[:reach, channels] = 0.5 + 0.5 * np.cos(np.pi * np.arange(reach) / reach)[:, None]
        self.register_buffer("share", torch.from_numpy(share).to(known))
        # the head keeps its pace at first, shapes about half of it
        ramp = np.where(np.arange(CHANNELS) >= HEAD.start, np.arange(len(share))[:, None] * share, 0.0)
        carry = np.where(np.arange(CHANNELS) >= HEAD.start, 1.0, 0.5)
        self.register_buffer("ramp", torch.from_numpy(ramp).to(known))
        self.register_buffer("carry", torch.from_numpy(carry).to(known))

    def forward(self, motion: Float[Tensor, "window 64 58"]) -> Float[Tensor, "window 64 58"]:
        """The motion as it could be; the known frames are those known."""
        whole = torch.cat([self.known, motion[:, self.frames :]], dim=1)
        smooth = torch.einsum("cts,bsc->btc", self.filters, whole)
        smooth[..., GAZE] = _median(whole[..., GAZE])
        if self.frames == 0:
            return smooth
        fresh = smooth[:, self.frames :]
        last, pace = self.known[:, -1:], self.known[:, -1:] - self.known[:, -2:-1]
        jump = fresh[:, :1] - (last + self.carry * pace)
        turn = (fresh[:, 2:3] - fresh[:, :1]) / 2 - pace
        return torch.cat([self.known, fresh - jump * self.share - turn * self.ramp], dim=1)


def low_passes() -> Float[np.ndarray, "58 64 64"]:
    """For each channel, the matrix that smooths a window of it; blinks and gaze pass."""
    clock = np.arange(WINDOW)
    sigma = np.full(CHANNELS, 1e-3)
    sigma[SHAPES] = np.where(LOWER_FACE, _SMOOTH_MOUTH, _SMOOTH_UPPER)
    sigma[HEAD] = _SMOOTH_HEAD
    taps = np.exp(-0.5 * ((clock[:, None] - clock[None, :]) / sigma[:, None, None]) ** 2)
    return (taps / taps.sum(axis=2, keepdims=True)).astype(np.float32)


def _median(gaze: Float[Tensor, "window frame angle"]) -> Float[Tensor, "window frame angle"]:
    half = _GAZE_MEDIAN // 2
    ends = [gaze[:, :1].expand(-1, half, -1), gaze, gaze[:, -1:].expand(-1, half, -1)]
    return torch.cat(ends, dim=1).unfold(1, _GAZE_MEDIAN, 1).median(dim=-1).values


class LinearLimits(nn.Module):
    """Brings estimated motion within limits: the linear lip opening is lowered where it must be, blinks are put in."""

    most: Tensor
    blink: Tensor
    direction: Tensor

    def __init__(self, limits: Limits, gap: LinearGap, device: torch.device) -> None:
        super().__init__()
        self.gap = gap
        ease = closing_ease(limits.shut, FPS)
        least = np.where(ease > 0, _CLOSED + (1.0 - ease), np.inf)
        silent = np.where(limits.quiet > 0, limits.rest_gap + _SPARE + (1.0 - limits.quiet), np.inf)
        self.register_buffer("most", torch.from_numpy(np.minimum(least, silent)).float())
        self.register_buffer("blink", torch.from_numpy(limits.blink).float())
        lower = gap.gain * torch.from_numpy(LOWER_FACE).to(gap.gain)
        self.register_buffer("direction", lower / lower.square().sum())
        self.to(device)

    def forward(self, motion: Float[Tensor, "window frame 58"]) -> Float[Tensor, "window frame 58"]:
        """The motion with weights within 0..1; twice, because clipped shapes leave some of the opening to the others."""
        shapes = motion[..., SHAPES].clamp(0.0, 1.0)
        for _ in range(2):
            excess = torch.relu(self.gap(shapes) - self.most)
            shapes = (shapes - excess[..., None] * self.direction).clamp(0.0, 1.0)
        limited = motion.clone()
        limited[..., SHAPES] = shapes
        limited[..., BLINK] = self.blink
        return limited
