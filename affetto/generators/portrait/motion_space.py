"""What the portrait's motion models generate: 58 channels a frame at 25 frames a second, and their way to curves and back.

52 blend shapes with the lids' tonic position only, the blink apart (0 open, 1 shut), yaw, pitch and roll of the head,
yaw and pitch of the gaze (radians). The eyeLook shapes follow from the gaze and are not generated.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from affetto.acting.liveliness import Life, apply_life
from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.runtime.errors import UsageError

FPS = 25.0
WINDOW = 64  # frames generated together
PREFIX = 10  # of them known: the end of the window before
ROWS_PER_FRAME = 2  # speech content is at 50 Hz
MARGIN = 16  # rows of content seen before and after a window

SHAPES = slice(0, 52)
BLINK = 52
HEAD = slice(53, 56)
GAZE = slice(56, 58)
CHANNELS = 58

LOOKS = np.array([name.startswith("eyeLook") for name in ARKIT_52])
"""Which shapes are not generated but follow from the gaze."""

STYLE = (
    "jaw", "lips", "width", "side", "brows", "yaw", "pitch", "roll", "head", "gaze", "expression",
)  # fmt: skip
"""What makes a performer, each about N(0, 1): travel of jaw and lips, width of the mouth, which side leads, brow accents,
habitual pose, liveliness of head and gaze, strength of expression."""


SHIFT = 4.0
"""How far noise levels lean to 1, in training and in sampling: a window is so redundant that its emotion still shows through
nine parts of noise, where a network would read it rather than what it is told (the shift of SD3, Esser et al. 2024)."""

_NOISE_SIGMA = {"fast": 0.8, "upper": 2.0, "head": 4.0}  # frames


def noise_mixer() -> Float[np.ndarray, "58 64 64"]:
    """For each channel, what turns a window of white noise into noise of unit variance about as slow as its motion.

    A flow may start from any Gaussian; one that moves like heads move leaves no jitter behind.
    """
    clock = np.arange(WINDOW)
    mixers = {}
    for name, sigma in _NOISE_SIGMA.items():
        taps = np.exp(-0.5 * ((clock[:, None] - clock[None, :]) / sigma) ** 2)
        mixers[name] = taps / np.linalg.norm(taps, axis=1, keepdims=True)
    upper = [name.startswith(("brow", "eye", "cheekSquint", "noseSneer")) for name in ARKIT_52]
    groups = ["upper" if is_upper else "fast" for is_upper in upper] + ["fast"] + 3 * ["head"] + 2 * ["fast"]
    return np.stack([mixers[group] for group in groups]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much of each; 1 is ordinary, 0 gives exactly none beyond what the emotion itself holds."""

    articulation: float = 1.1  # lip and jaw travel while speaking; a little clearer than learned is ordinary
    head_motion: float = 1.0
    blinks: float = 1.0
    gaze: float = 1.0

    def __post_init__(self) -> None:
        for name in ("articulation", "head_motion", "blinks", "gaze"):
            if not 0 <= getattr(self, name) <= 3:
                raise UsageError(f"{name} lies in 0..3, got {getattr(self, name):g}")


def drawn_style(seed: int) -> Float[np.ndarray, "style"]:
    """The performer of a seed: each trait drawn from N(0, 0.8²) and held within ±1.5."""
    drawn = 0.8 * np.random.default_rng([seed, 0x57]).standard_normal(len(STYLE))
    return np.clip(drawn, -1.5, 1.5).astype(np.float32)


def to_curves(
    rows: Float[np.ndarray, "frame 58"],
    rest_head: Float[np.ndarray, "frame 3"],
    rest_gaze: Float[np.ndarray, "frame 2"],
    amounts: Amounts,
) -> FaceCurves:
    """The performance that generated rows stand for; motion of head and eyes beyond their rest is scaled by `amounts`."""
    weights = np.clip(rows[:, SHAPES], 0.0, 1.0)
    weights[:, LOOKS] = 0.0
    head = rest_head + amounts.head_motion * (rows[:, HEAD] - rest_head)
    gaze = rest_gaze + amounts.gaze * (rows[:, GAZE] - rest_gaze)
    eyes = np.repeat(gaze[:, None], 2, axis=1)
    life = Life(blink=np.clip(rows[:, BLINK], 0.0, 1.0), eyes=eyes, head=head)
    return FaceCurves(
        fps=FPS,
        weights=apply_life(weights, life),
        head=head.astype(np.float32),
        eyes=eyes.astype(np.float32),
    )
