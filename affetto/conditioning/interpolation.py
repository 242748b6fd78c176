"""Getting from one keyframe to the next: eases over time, slerp through VAD space, smooth random paths."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from affetto.conditioning.lexicon import Number
from affetto.runtime.errors import UsageError, quoted

OPPOSITE_DEGREES = 150.0
"""Beyond this angle a straight turn between two emotions is arbitrary, so slerp takes a waypoint."""

_WAYPOINT_AROUSAL = 0.35  # an aroused, unvalenced moment between two opposite emotions
_TINY = 1e-6  # below this length a VAD vector has no direction
_SIMPLE = ("hold", "linear", "cosine", "smoothstep", "catmull-rom")
_EASE_TEXT = re.compile(r"(bezier|cubic-bezier|exp)\(([-+0-9.eE,\s]*)\)")


@dataclass(frozen=True, kw_only=True)
class Ease:
    """How a segment is travelled: a kind and its numbers (bezier: x1, y1, x2, y2; exp: rise and fall seconds)."""

    kind: str
    numbers: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}({','.join(f'{n:g}' for n in self.numbers)})" if self.numbers else self.kind


def parse_ease(text: str) -> Ease:
    """The ease `text` names: hold, linear, cosine, smoothstep, catmull-rom, bezier(x1,y1,x2,y2) or exp(rise,fall)."""
    word = text.strip().lower()
    if word in _SIMPLE:
        return Ease(kind=word)
    if word in ("exp", "bezier"):
        return Ease(kind=word, numbers=(0.3, 0.8) if word == "exp" else (0.42, 0.0, 0.58, 1.0))
    match = _EASE_TEXT.fullmatch(word)
    try:
        numbers = tuple(float(n) for n in match[2].split(",")) if match else ()
    except ValueError:
        numbers = ()
    if match and match[1] == "exp" and len(numbers) == 2 and min(numbers) > 0:
        return Ease(kind="exp", numbers=numbers)
    if match and match[1] != "exp" and len(numbers) == 4 and all(0 <= x <= 1 for x in numbers[::2]):
        return Ease(kind="bezier", numbers=numbers)
    raise UsageError(
        f"unknown ease {quoted(text)}: use {', '.join(_SIMPLE)}, bezier(x1,y1,x2,y2) with x in 0..1, exp(rise,fall)"
    )


def ease_weights(
    ease: Ease, u: Float[np.ndarray, "frame"], seconds: Float[np.ndarray, "frame"], rising: np.ndarray
) -> Float[np.ndarray, "frame"]:
    """The share of the next keyframe at progress `u` (0..1) through segments of `seconds`; 0 at 0 and 1 at 1.

    `rising` says frame by frame whether the emotion grows: exp eases attack and decay at different speeds.
    """
    simple: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "hold": lambda x: (x >= 1).astype(np.float64),
        "linear": lambda x: x,
        "catmull-rom": lambda x: x,
        "cosine": lambda x: 0.5 - 0.5 * np.cos(np.pi * x),
        "smoothstep": lambda x: x * x * (3 - 2 * x),
    }
    if ease.kind in simple:
        return simple[ease.kind](u)
    if ease.kind == "bezier":
        return _bezier(u, *ease.numbers)
    tau = np.where(rising, ease.numbers[0], ease.numbers[1])
    # Normalised, so that the next keyframe is met exactly, however short the segment.
    return np.expm1(-u * seconds / tau) / np.expm1(-np.maximum(seconds, 1e-9) / tau)


def _bezier(
    u: Float[np.ndarray, "frame"], x1: float, y1: float, x2: float, y2: float
) -> Float[np.ndarray, "frame"]:
    # CSS cubic-bezier: find the parameter s with x(s) = u (x is monotone for x1, x2 in 0..1), then y(s).
    low, high = np.zeros_like(u), np.ones_like(u)
    for _ in range(40):
        middle = 0.5 * (low + high)
        x = 3 * (1 - middle) ** 2 * middle * x1 + 3 * (1 - middle) * middle**2 * x2 + middle**3
        low, high = np.where(x < u, middle, low), np.where(x < u, high, middle)
    s = 0.5 * (low + high)
    y = 3 * (1 - s) ** 2 * s * y1 + 3 * (1 - s) * s**2 * y2 + s**3
    return np.where(u <= 0, 0.0, np.where(u >= 1, 1.0, y))


def hermite(
    times: Float[np.ndarray, "key"],
    values: Float[np.ndarray, "key channel"],
    segment: np.ndarray,
    u: Float[np.ndarray, "frame"],
) -> Float[np.ndarray, "frame channel"]:
    """The Catmull-Rom curve through the keyframes, for unequal spacing: tangents are slopes across the neighbours."""
    count = len(times)
    before, after = np.maximum(np.arange(count) - 1, 0), np.minimum(np.arange(count) + 1, count - 1)
    slope = (values[after] - values[before]) / np.maximum(times[after] - times[before], 1e-9)[:, None]
    length = (times[segment + 1] - times[segment])[:, None]
    s = u[:, None]
    return (
        (2 * s**3 - 3 * s**2 + 1) * values[segment]
        + (s**3 - 2 * s**2 + s) * length * slope[segment]
        + (3 * s**2 - 2 * s**3) * values[segment + 1]
        + (s**3 - s**2) * length * slope[segment + 1]
    )


def slerp(
    start: Float[np.ndarray, "frame 3"],
    stop: Float[np.ndarray, "frame 3"],
    w: Float[np.ndarray, "frame"],
    *,
    route: str = "arousal",
    strength: Float[np.ndarray, "frame"] | Number = 1.0,
) -> Float[np.ndarray, "frame 3"]:
    """Turn the direction from `start` to `stop` and change the length linearly; `w` runs 0..1.

    A vector too short to point anywhere is reached in a straight line. More than 150 degrees apart, the way leads over
    an aroused moment (`route="arousal"`, its height times `strength`) or through neutral (`route="neutral"`).
    """
    plain = _turn(start, stop, w)
    length_a, length_b = np.linalg.norm(start, axis=-1), np.linalg.norm(stop, axis=-1)
    cosine = np.einsum("ti,ti->t", start, stop) / np.maximum(length_a * length_b, _TINY**2)
    opposite = (cosine < np.cos(np.deg2rad(OPPOSITE_DEGREES))) & (np.minimum(length_a, length_b) > _TINY)
    if not opposite.any():
        return plain
    a, b, half = start[opposite], stop[opposite], w[opposite]
    waypoint = np.zeros_like(a)
    if route == "arousal":
        waypoint[:, 1] = _WAYPOINT_AROUSAL * np.broadcast_to(strength, w.shape)[opposite]
    first = half < 0.5
    leg_start, leg_stop = np.where(first[:, None], a, waypoint), np.where(first[:, None], waypoint, b)
    plain[opposite] = _turn(leg_start, leg_stop, np.where(first, 2 * half, 2 * half - 1))
    return plain


def _turn(
    a: Float[np.ndarray, "frame 3"], b: Float[np.ndarray, "frame 3"], w: Float[np.ndarray, "frame"]
) -> Float[np.ndarray, "frame 3"]:
    length_a, length_b = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    straight = (1 - w)[:, None] * a + w[:, None] * b
    unit_a, unit_b = a / np.maximum(length_a, _TINY)[:, None], b / np.maximum(length_b, _TINY)[:, None]
    angle = np.arccos(np.clip(np.einsum("ti,ti->t", unit_a, unit_b), -1, 1))
    sine = np.sin(angle)
    safe = np.maximum(sine, 1e-9)
    part_a, part_b = np.sin((1 - w) * angle) / safe, np.sin(w * angle) / safe
    turned = ((1 - w) * length_a + w * length_b)[:, None] * (
        part_a[:, None] * unit_a + part_b[:, None] * unit_b
    )
    keep_straight = (np.minimum(length_a, length_b) < _TINY) | (sine < 1e-6)
    return np.where(keep_straight[:, None], straight, turned)


def smooth_noise(
    frames: int, channels: int, *, fps: Number, seed: int, length_s: Number = 0.5
) -> Float[np.ndarray, "frame channel"]:
    """Paths of a unit-variance Gaussian process whose RBF kernel is exp(-dt^2 / (2 length_s^2)).

    White noise through a Gaussian filter of length_s / sqrt(2) has exactly this covariance, at any number of frames.
    """
    from scipy.ndimage import gaussian_filter1d  # scipy takes longer to import than the rest of this room

    sigma = max(length_s * fps / np.sqrt(2), 1e-3)
    margin = int(np.ceil(5 * sigma))
    white = np.random.default_rng(seed).standard_normal((frames + 2 * margin, channels))
    smooth = gaussian_filter1d(white, sigma, axis=0, truncate=5.0, mode="constant")
    probe = np.zeros(2 * margin + 1)
    probe[margin] = 1.0
    gain = np.linalg.norm(gaussian_filter1d(probe, sigma, truncate=5.0, mode="constant"))
    return smooth[margin : margin + frames] / gain


def limit_rate(
    values: Float[np.ndarray, "frame channel"], *, fps: Number, per_second: Number
) -> Float[np.ndarray, "frame channel"]:
    """The closest follower of `values` that moves at most `per_second` per second, all channels together."""
    step = per_second / fps
    limited = np.array(values, np.float64)
    for frame in range(1, len(limited)):
        move = limited[frame] - limited[frame - 1]
        size = float(np.linalg.norm(move))
        if size > step:
            limited[frame] = limited[frame - 1] + move * (step / size)
    return limited
