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
    HEAD,
    ROWS_PER_FRAME,
    SHAPES,
    WINDOW,
)
from affetto.speech.content import CONTENT_FPS, SpeechContent, closure_events

_CLOSED = 0.006  # of the inter-pupil distance
_SHAPE_EASE, _HEAD_EASE = 5, 15  # frames
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


class Seam(nn.Module):
    """Lets motion go on from the frames that are known as they were moving: what jumps is shifted, less and less.

    Shapes are back on their own course after 0.2 s, the head after 0.6 s; glances and blinks may jump.
    """

    share: Tensor
    expected: Tensor

    def __init__(self, known: Float[Tensor, "window 10 58"]) -> None:
        super().__init__()
        self.frames = known.shape[1]
        last, before = known[:, -1:], known[:, -2:-1]
        self.register_buffer("expected", last + 0.5 * (last - before))
        share = np.zeros((WINDOW - self.frames, CHANNELS), np.float32)
        for channels, reach in ((SHAPES, _SHAPE_EASE), (HEAD, _HEAD_EASE)):
            share[:reach, channels] = 0.5 + 0.5 * np.cos(np.pi * np.arange(reach) / reach)[:, None]
        self.register_buffer("share", torch.from_numpy(share).to(known))

    def forward(self, motion: Float[Tensor, "window 64 58"]) -> Float[Tensor, "window 64 58"]:
        """The motion with the jump taken out of its fresh frames."""
        jump = motion[:, self.frames : self.frames + 1] - self.expected
        return torch.cat([motion[:, : self.frames], motion[:, self.frames :] - jump * self.share], dim=1)


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
