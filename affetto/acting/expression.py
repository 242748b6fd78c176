"""Emotional expression by rule: FACS action units as blend shapes, timed like faces move, kept out of speech's way.

Profiles follow EMFACS (Ekman & Friesen): happy 6+12, sad 1+4+15, angry 4+5+7+23, fear 1+2+4+5+20+26, disgust 9+15+16,
surprise 1+2+5+26, contempt 12+14 on one side. All of it is exactly zero for neutral and at intensity 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import convolve1d

from affetto.acting.visemes import pose
from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.lexicon import lookup
from affetto.media.animation.curves import ARKIT_52

PROFILES: Mapping[str, Mapping[str, float]] = {
    "neutral": {},
    "happy": {
        "browInnerUp": 0.05, "browOuterUp": 0.10, "eyeSquint": 0.32, "cheekSquint": 0.80, "noseSneer": 0.04,
        "mouthSmile": 0.85, "mouthDimple": 0.12, "mouthStretch": 0.08, "mouthUpperUp": 0.20, "mouthLowerDown": 0.08,
        "jawOpen": 0.06,
    },
    "sad": {
        "browInnerUp": 0.95, "browDown": 0.18, "eyeBlink": 0.14, "eyeSquint": 0.12, "cheekSquint": 0.05,
        "mouthFrown": 0.80, "mouthStretch": 0.08, "mouthPress": 0.10, "mouthShrugLower": 0.34,
        "mouthShrugUpper": 0.12, "mouthRollLower": 0.05,
    },
    "angry": {
        "browDown": 1.00, "eyeWide": 0.25, "eyeSquint": 0.48, "cheekSquint": 0.15, "noseSneer": 0.32,
        "mouthFrown": 0.25, "mouthStretch": 0.06, "mouthPress": 0.60, "mouthShrugLower": 0.42,
        "mouthRollLower": 0.24, "mouthRollUpper": 0.12, "jawForward": 0.25,
    },
    "fear": {
        "browInnerUp": 1.00, "browOuterUp": 0.25, "browDown": 0.28, "eyeWide": 0.95, "eyeSquint": 0.05,
        "mouthFrown": 0.25, "mouthStretch": 0.80, "mouthUpperUp": 0.06, "mouthLowerDown": 0.40,
        "jawOpen": 0.07,
    },
    "disgusted": {
        "browDown": 0.55, "eyeBlink": 0.05, "eyeSquint": 0.50, "cheekSquint": 0.45, "noseSneer": 1.00,
        "mouthFrown": 0.42, "mouthStretch": 0.06, "mouthUpperUp": 0.45, "mouthLowerDown": 0.06,
        "mouthShrugLower": 0.34, "mouthShrugUpper": 0.12,
    },
    "surprised": {
        "browInnerUp": 0.95, "browOuterUp": 0.90, "eyeWide": 0.85, "mouthLowerDown": 0.06, "mouthFunnel": 0.10,
        "jawOpen": 0.38,
    },
    "contempt": {
        "browOuterUpRight": 0.45, "browDownLeft": 0.30, "browDownRight": 0.08, "eyeBlink": 0.12, "eyeSquint": 0.16,
        "cheekSquintLeft": 0.35, "noseSneerLeft": 0.22, "mouthSmileLeft": 0.60, "mouthDimpleLeft": 0.60,
        "mouthLeft": 0.12, "mouthPressLeft": 0.20, "mouthPressRight": 0.15, "mouthUpperUpLeft": 0.10,
        "mouthFrownRight": 0.15,
    },
}  # fmt: skip
"""Blend shape weights of each anchor emotion at intensity 1; a bare name means both sides."""

PROFILE_POSES: Float[np.ndarray, "8 52"] = np.stack([pose(PROFILES[name]) for name in ANCHORS_8])
"""`PROFILES` as an array, in the order of `ANCHORS_8`."""

# Head pitch (down positive), head roll, gaze down: degrees. Articulation gain; blinks a minute.
_BEARING: Mapping[str, tuple[float, float, float, float, float]] = {
    "neutral": (0.0, 0.0, 0.0, 1.00, 15.0),
    "happy": (-2.0, 0.0, 0.0, 1.10, 18.0),
    "sad": (7.0, 0.0, 4.0, 0.85, 10.0),
    "angry": (5.0, 0.0, -4.0, 1.15, 8.0),
    "fear": (-2.0, 0.0, 0.0, 1.00, 24.0),
    "disgusted": (-3.0, 0.0, 2.0, 0.95, 16.0),
    "surprised": (-3.0, 0.0, 0.0, 1.10, 8.0),
    "contempt": (-4.5, 4.0, 4.5, 0.90, 14.0),
}
_BEARINGS: Float[np.ndarray, "8 5"] = np.array([_BEARING[name] for name in ANCHORS_8])
_ANCHOR_VAD: Float[np.ndarray, "8 3"] = np.array(
    [(0, 0, 0), *(lookup(name).vad for name in ANCHORS_8[1:])], np.float64
)


def _channels(*names: str) -> np.ndarray:
    return np.flatnonzero(pose(dict.fromkeys(names, 1.0)))


LOWER_FACE: np.ndarray = np.array(
    [name.startswith(("mouth", "jaw", "cheekPuff", "tongue")) for name in ARKIT_52]
)
"""Which of the 52 channels speech uses too."""

_SPEAKING_SHARE = np.where(LOWER_FACE, 0.4, 1.0) + pose(
    {
        **dict.fromkeys(("mouthSmile", "mouthDimple", "mouthFrown"), 0.25),
        **dict.fromkeys(("mouthPress", "mouthRollLower", "mouthRollUpper", "jawOpen"), -0.2),
        **dict.fromkeys(("mouthFunnel", "mouthShrugUpper"), -0.1),
        "jawForward": 0.6, "mouthLeft": 0.3, "mouthRight": 0.3,
    }
)  # fmt: skip
"""What is left of an expression while speaking: mouth corners keep most, what moves the lips apart gives way."""

_PARTING = _channels("mouthUpperUp", "mouthLowerDown", "mouthFunnel", "mouthShrugUpper", "jawOpen")
_SMILING = _channels("mouthSmile", "mouthStretch", "mouthDimple")
_ROUND = _channels("mouthPucker", "mouthFunnel")
_NOTHING = 1e-9  # an emotion weaker than this is none


@dataclass(frozen=True, kw_only=True)
class Mood:
    """What an emotion does besides shaping the face, frame by frame; all of it ordinary at neutral."""

    head: Float[np.ndarray, "frame 3"]  # yaw, pitch, roll in radians, added to the motion of the head
    gaze: Float[np.ndarray, "frame 2"]  # yaw, pitch in radians
    articulation: Float[np.ndarray, "frame"]  # gain on speech, 1 at neutral
    blinks: Float[np.ndarray, "frame"]  # a minute
    liveliness: Float[np.ndarray, "frame"]  # gain on the motion of the head, 1 at neutral

    @classmethod
    def neutral(cls, frames: int) -> "Mood":
        """The mood of no emotion."""
        anchors = np.zeros((frames, len(ANCHORS_8)))
        anchors[:, 0] = 1.0
        return mood(anchors, np.zeros((frames, 3)))


def hann(seconds: float, fps: float) -> Float[np.ndarray, "tap"]:
    """A raised-cosine kernel of odd length that sums to 1."""
    taps = 2 * round(seconds * fps / 2) + 1
    kernel = np.hanning(taps + 2)[1:-1]
    return kernel / kernel.sum()


def paced(
    anchors: Float[np.ndarray, "frame 8"], fps: float, *, onset_s: float = 0.4, offset_s: float = 0.8
) -> Float[np.ndarray, "frame 8"]:
    """The anchor weights with the pace of a face: emotions come in over `onset_s` and leave over `offset_s`.

    Both are half-way exactly when the track is, so that no change comes late: what leaves slowly begins to leave earlier.
    A frame depends only on frames less than `offset_s` away, so that windows with that margin join seamlessly.
    """
    if len(anchors) == 0:
        return anchors
    emotions = np.concatenate([anchors[:, 1:], anchors[:, 1:].sum(axis=1, keepdims=True)], axis=1)
    steps = np.diff(emotions, axis=0, prepend=emotions[:1])
    risen, fallen = (np.cumsum(np.maximum(part, 0.0), axis=0) for part in (steps, -steps))
    fast = convolve1d(risen, hann(onset_s, fps), axis=0, mode="nearest")
    slow = convolve1d(fallen, hann(offset_s, fps), axis=0, mode="nearest")
    envelope = emotions[:1] + fast - slow
    envelope = np.where(envelope < _NOTHING, 0.0, envelope)  # sums that cancel leave a rest
    present, cap = envelope[:, :-1], envelope[:, -1:]
    total = present.sum(axis=1, keepdims=True)
    present = present * np.minimum(1.0, cap / np.maximum(total, _NOTHING))
    neutral = np.maximum(1.0 - present.sum(axis=1, keepdims=True), 0.0)
    return np.concatenate([neutral, present], axis=1)


def breathing(
    frames: int, fps: float, *, seed: int, amount: float = 0.1, start_s: float = 0.0
) -> Float[np.ndarray, "frame"]:
    """A gain around 1 that wanders by about `amount` at 0.1 to 0.4 Hz: a held expression is never frozen.

    A function of absolute time, so that it can be computed in pieces.
    """
    rng = np.random.default_rng([seed, 0xB7EA])
    hertz = rng.uniform(0.1, 0.4, 4)
    phases = rng.uniform(0, 2 * np.pi, 4)
    times = start_s + np.arange(frames) / fps
    waves = np.sin(2 * np.pi * hertz * times[:, None] + phases).sum(axis=1)
    return 1.0 + amount * waves / np.sqrt(8.0)


def expression_pose(
    anchors: Float[np.ndarray, "frame 8"], vad: Float[np.ndarray, "frame 3"]
) -> Float[np.ndarray, "frame 52"]:
    """The face of an emotion at rest: profiles mixed by anchor weight, plus what the effective `vad` adds to them.

    The upper face answers early (strength^0.65), the mouth nearly in proportion (strength^0.95). Weights of the
    anchors other than neutral may sum to 2 (overdrive); the result levels off below 1.
    """
    emotions = np.asarray(anchors, np.float64)[:, 1:]
    strength = np.clip(emotions.sum(axis=1, keepdims=True), 0.0, 2.0)
    mix = emotions / np.maximum(strength, 1e-9)
    growth = np.where(LOWER_FACE, strength**0.95, strength**0.65)
    weights = growth * (mix @ PROFILE_POSES[1:])
    rest_v, rest_a, rest_d = _residual(anchors, vad).T[..., None]
    weights = (
        weights
        + 0.18 * np.maximum(rest_v, 0) * pose({"mouthSmile": 1.0, "cheekSquint": 0.8})
        + 0.15 * np.maximum(-rest_v, 0) * pose({"mouthFrown": 1.0, "browInnerUp": 0.6})
        + 0.20 * np.maximum(rest_a, 0) * pose({"eyeWide": 1.0, "browOuterUp": 0.5})
        + 0.12 * np.maximum(-rest_a, 0) * pose({"eyeBlink": 1.0})
        + 0.18 * np.maximum(rest_d, 0) * pose({"browDown": 1.0, "jawForward": 0.3})
        + 0.12 * np.maximum(-rest_d, 0) * pose({"browInnerUp": 1.0})
    )
    return _levelled(weights)


def _residual(
    anchors: Float[np.ndarray, "frame 8"], vad: Float[np.ndarray, "frame 3"]
) -> Float[np.ndarray, "frame 3"]:
    """What VAD says beyond the anchors; 0 where there is neither."""
    named = np.clip(np.asarray(anchors, np.float64)[:, 1:] @ _ANCHOR_VAD[1:], -1.0, 1.0)
    return np.clip(np.asarray(vad, np.float64) - named, -1.0, 1.0)


def _levelled(weights: Float[np.ndarray, "frame 52"]) -> Float[np.ndarray, "frame 52"]:
    """Identity up to .8, then bending towards 1."""
    knee, room = 0.8, 0.2
    return np.where(weights <= knee, weights, knee + room * np.tanh((weights - knee) / room))


def mood(anchors: Float[np.ndarray, "frame 8"], vad: Float[np.ndarray, "frame 3"]) -> Mood:
    """The bearing of an emotion: head, gaze, articulation, blink rate and liveliness."""
    emotions = np.asarray(anchors, np.float64)[:, 1:]
    bearing = _BEARINGS[0] + emotions @ (_BEARINGS[1:] - _BEARINGS[0])
    arousal = np.asarray(vad, np.float64)[:, 1]
    dominance = _residual(anchors, vad)[:, 2]
    radians = np.deg2rad(np.clip(bearing[:, :3], -15.0, 15.0))
    zero = np.zeros(len(emotions))
    return Mood(
        head=np.stack([zero, radians[:, 0] - np.deg2rad(4.0) * dominance, radians[:, 1]], axis=1),
        gaze=np.stack([zero, radians[:, 2]], axis=1),
        articulation=np.clip(bearing[:, 3] + 0.10 * arousal, 0.6, 1.4),
        blinks=np.clip(bearing[:, 4] * (1.0 + 0.2 * arousal), 3.0, 45.0),
        liveliness=np.clip(1.0 + 0.5 * arousal, 0.4, 1.8),
    )


def speech_gate(
    speaking: Float[np.ndarray, "frame"], closure: Float[np.ndarray, "frame"], fps: float
) -> Float[np.ndarray, "frame 52"]:
    """What share of an expression each channel may show: all in silence, less in speech, lips never parted in closures."""
    if len(speaking) == 0:
        return np.ones((0, 52))
    talking = convolve1d(np.clip(speaking, 0, 1).astype(np.float64), hann(0.24, fps), mode="nearest")
    gate = 1.0 - talking[:, None] * (1.0 - _SPEAKING_SHARE)
    shut = convolve1d(np.clip(closure, 0, 1).astype(np.float64), hann(0.06, fps), mode="nearest")
    gate[:, _PARTING] *= (1.0 - shut)[:, None]
    return gate


def express(
    speech: Float[np.ndarray, "frame 52"],
    anchors: Float[np.ndarray, "frame 8"],
    vad: Float[np.ndarray, "frame 3"],
    *,
    speaking: Float[np.ndarray, "frame"],
    closure: Float[np.ndarray, "frame"],
    fps: float = 50.0,
) -> Float[np.ndarray, "frame 52"]:
    """Speech and emotion on one face: weights 0..1.

    `speech` comes from the rules or a network, `anchors` and `vad` (effective) from the emotion track. Without emotion
    the result is `speech`, bit for bit.
    """
    gated = expression_pose(anchors, vad) * speech_gate(speaking, closure, fps)
    gain = mood(anchors, vad).articulation[:, None]
    articulated = np.where(LOWER_FACE, speech * gain, speech)
    # rounded lips cannot smile as well, nor a shut mouth grin: the expression gives way to what the sound needs
    rounding = np.clip(speech[:, _ROUND].sum(axis=1, keepdims=True), 0.0, 1.0)
    gated[:, _SMILING] *= 1.0 - 0.5 * rounding
    both = np.clip(articulated + gated * (1.0 - 0.35 * np.clip(articulated, 0.0, 1.0)), 0.0, 1.0)
    return both.astype(np.float32)
