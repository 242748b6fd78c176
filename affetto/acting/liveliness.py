"""Life between the words: blinks, glances, head motion; seeded, controllable, computable in pieces.

Everything is a function of absolute time and of curves less than `MARGIN_S` away: chance is drawn once for each short
cell of time from (seed, cell), never in sequence. A window with that margin therefore equals the same stretch of
the whole clip.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import convolve1d

from affetto.acting.expression import Mood, hann
from affetto.head.model import LOOK_DEGREES
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.errors import UsageError

MARGIN_S = 2.56
_BLINK_CELL_S = 0.5
_GAZE_CELL_S = 0.9
_BLINKS, _GAZE, _SWAY = range(3)  # streams of chance


@dataclass(frozen=True, kw_only=True)
class LivelinessOptions:
    """How much of each; 1 is ordinary, 0 gives exactly none."""

    blinks: float = 1.0
    gaze: float = 1.0
    head: float = 1.0

    def __post_init__(self) -> None:
        if min(self.blinks, self.gaze, self.head) < 0 or max(self.blinks, self.gaze, self.head) > 3:
            raise UsageError(f"amounts of blinks, gaze and head motion lie in 0..3, got {self}")


@dataclass(frozen=True, kw_only=True)
class Life:
    """What to add to a face, frame by frame."""

    blink: Float[np.ndarray, "frame"]  # 0 open .. 1 shut
    eyes: Float[np.ndarray, "frame 2 2"]  # (left, right) x (yaw, pitch) in radians
    head: Float[np.ndarray, "frame 3"]  # yaw, pitch, roll in radians


def enliven(
    mood: Mood,
    *,
    speaking: Float[np.ndarray, "frame"],
    loudness: Float[np.ndarray, "frame"],
    fps: float,
    seed: int,
    start_s: float = 0.0,
    options: LivelinessOptions | None = None,
) -> Life:
    """Blinks, gaze and head motion for a stretch of time that begins at `start_s` of the performance.

    Blinks come at the mood's rate, more often where speech pauses; nods follow the accents of `loudness` (0..1), the
    head sinks at the end of phrases; the mood's head and gaze bias is included.
    """
    options = options or LivelinessOptions()
    frames = len(speaking)
    times = start_s + np.arange(frames) / fps
    if frames == 0:
        return Life(blink=np.zeros(0), eyes=np.zeros((0, 2, 2)), head=np.zeros((0, 3)))
    gaze = mood.gaze + options.gaze * _glances(times, seed)
    return Life(
        blink=blink_curve(times, mood, speaking, fps, seed, options.blinks),
        eyes=np.repeat(gaze[:, None], 2, axis=1),
        head=mood.head + options.head * _head(times, mood, speaking, loudness, fps, seed),
    )


def apply_life(weights: Float[np.ndarray, "frame 52"], life: Life) -> Float[np.ndarray, "frame 52"]:
    """The weights with blinks and the lids' and eyes' share of the gaze added."""
    lively = weights.copy()
    for side in ("Left", "Right"):
        lid, wide = ARKIT_INDEX[f"eyeBlink{side}"], ARKIT_INDEX[f"eyeWide{side}"]
        lively[:, lid] += (1.0 - lively[:, lid]) * life.blink
        lively[:, wide] *= 1.0 - life.blink
    lively += look_weights(life.eyes)
    return np.clip(lively, 0.0, 1.0).astype(np.float32)


def look_weights(eyes: Float[np.ndarray, "frame 2 2"]) -> Float[np.ndarray, "frame 52"]:
    """The eyeLook weights that go with eye rotations (yaw to the subject's left and pitch down positive)."""
    weights = np.zeros((len(eyes), 52))
    for index, side in enumerate(("Left", "Right")):
        outward = eyes[:, index, 0] if side == "Left" else -eyes[:, index, 0]
        down = eyes[:, index, 1]
        for name, angle in (("Out", outward), ("In", -outward), ("Down", down), ("Up", -down)):
            weights[:, ARKIT_INDEX[f"eyeLook{name}{side}"]] = np.clip(
                angle / np.deg2rad(LOOK_DEGREES[name]), 0.0, 1.0
            )
    return weights


def _cells(
    times: Float[np.ndarray, "frame"], cell_s: float, seed: int, stream: int, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cell numbers around `times` and `draws` uniform numbers for each, drawn in blocks of 16 cells."""
    first = max(0, int(np.floor((times[0] - MARGIN_S) / cell_s)))
    last = int(np.floor((times[-1] + MARGIN_S) / cell_s)) + 1
    blocks = range(first // 16, last // 16 + 1)
    numbers = np.concatenate(
        [np.random.default_rng([seed, stream, block]).random((16, draws)) for block in blocks]
    )
    offset = first - blocks[0] * 16
    cells = np.arange(first, last + 1)
    return cells, numbers[offset : offset + len(cells)]


def _at(curve: Float[np.ndarray, "frame"], seconds: np.ndarray, start_s: float, fps: float) -> np.ndarray:
    frame = np.clip(np.round((seconds - start_s) * fps).astype(int), 0, len(curve) - 1)
    return curve[frame]


def blink_curve(
    times: Float[np.ndarray, "frame"],
    mood: Mood,
    speaking: Float[np.ndarray, "frame"],
    fps: float,
    seed: int,
    amount: float,
) -> Float[np.ndarray, "frame"]:
    """Lids falling within 80 ms, resting, and rising over 200 ms, at chance moments thinned to the mood's rate.

    0 open .. 1 shut. A frame depends on speech from 0.7 s before to 0.2 s after it.
    """
    lids = np.zeros(len(times))
    cells, chance = _cells(times, _BLINK_CELL_S, seed, _BLINKS, 5)
    moments = (cells + 0.15 + 0.6 * chance[:, 0]) * _BLINK_CELL_S
    spoken = convolve1d(speaking.astype(np.float64), hann(0.2, fps), mode="nearest")
    lag = round(0.3 * fps)
    before = np.concatenate([np.repeat(spoken[:1], lag), spoken])[: len(spoken)]
    ending = np.maximum(before - spoken, 0.0)  # near 1 just after a phrase
    rate = amount * mood.blinks * (1.15 - 0.3 * spoken + 2.5 * ending)
    expected = _at(rate, moments, times[0], fps) * _BLINK_CELL_S / 60.0
    for moment, drawn in zip(moments[chance[:, 1] < expected], chance[chance[:, 1] < expected], strict=True):
        closing, rest, opening = 0.06 + 0.03 * drawn[2], 0.02 + 0.03 * drawn[3], 0.15 + 0.10 * drawn[4]
        depth = 0.6 if drawn[3] < 0.08 else 1.0  # some blinks stay incomplete
        clock = times - moment
        fall = np.clip((clock + closing) / closing, 0.0, 1.0)
        rise = np.clip(1.0 - (clock - rest) / opening, 0.0, 1.0)
        shape = (fall * fall * (3 - 2 * fall)) * rise**1.6
        lids = np.maximum(lids, depth * shape)
    return lids


def _glances(times: Float[np.ndarray, "frame"], seed: int) -> Float[np.ndarray, "frame 2"]:
    """Fixations of half a second to two, joined by saccades of some 50 ms, mostly near the listener's eyes."""
    cells, chance = _cells(times, _GAZE_CELL_S, seed, _GAZE, 5)
    moments = (cells + chance[:, 0]) * _GAZE_CELL_S
    moves = (chance[:, 1] < 0.55) | (cells % 2 == 0)  # no fixation outlasts the margin
    away = np.where(chance[:, 2] < 0.18, 6.5, 1.8)  # degrees: one glance in five leaves the face
    angle = 2 * np.pi * chance[:, 3]
    reach = np.deg2rad(away * (0.3 + 0.7 * chance[:, 4]))
    targets = np.stack([reach * np.cos(angle), 0.6 * reach * np.sin(angle)], axis=1)
    path = np.zeros((len(times), 2))
    for moment, target in zip(moments[moves], targets[moves], strict=True):
        share = np.clip((times - moment) / 0.05, 0.0, 1.0)[:, None]
        share = share * share * (3 - 2 * share)
        path = (1.0 - share) * path + share * target
    return path


def _head(
    times: Float[np.ndarray, "frame"],
    mood: Mood,
    speaking: Float[np.ndarray, "frame"],
    loudness: Float[np.ndarray, "frame"],
    fps: float,
    seed: int,
) -> Float[np.ndarray, "frame 3"]:
    """Sway (sums of slow sines), nods on accents, a drop of the chin where a phrase ends; radians."""
    rng = np.random.default_rng([seed, _SWAY])
    hertz = rng.uniform(0.08, 0.55, (3, 5))
    phase = rng.uniform(0, 2 * np.pi, (3, 5))
    scale = np.deg2rad([1.9, 1.1, 0.9])[:, None] / (1.0 + 2.0 * hertz)  # degrees of yaw, pitch, roll
    sway = (scale * np.sin(2 * np.pi * hertz * times[:, None, None] + phase)).sum(axis=-1)
    talking = convolve1d(speaking.astype(np.float64), hann(0.5, fps), mode="nearest")
    sway *= (0.55 + 0.45 * talking)[:, None]
    loud = loudness.astype(np.float64)
    accent = convolve1d(loud, hann(0.16, fps), mode="nearest") - convolve1d(
        loud, hann(0.9, fps), mode="nearest"
    )
    nod = np.deg2rad(5.0) * convolve1d(np.maximum(accent, 0.0), hann(0.2, fps), mode="nearest")
    lag = round(0.5 * fps)
    earlier = np.concatenate([np.repeat(talking[:1], lag), talking])[: len(talking)]
    drop = np.deg2rad(2.5) * np.maximum(earlier - talking, 0.0)
    sway[:, 1] += nod + drop
    sway[:, 2] += (
        np.deg2rad(1.2) * convolve1d(accent, hann(0.3, fps), mode="nearest") * np.sin(times + phase[2, 0])
    )
    return sway * mood.liveliness[:, None]
