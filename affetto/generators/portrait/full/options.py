"""What can be asked of DICE-Talk beside picture, sound and emotion."""

from dataclasses import dataclass, field

from affetto.generators.portrait.full.clip import WindowPlan
from affetto.generators.portrait.full.guidance import Guidance
from affetto.generators.portrait.full.presets import EXACT, DicePreset
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DiceTalkOptions:
    """How a portrait is animated.

    `crop` cuts a square about the face, as published. `emotion_scale` weighs the emotion's attention in the denoiser
    itself (no extra pass); `guidance.emotion` weighs it between passes. `published_length` ends with the last whole 80 ms
    of the sound, one frame short of it, as published; otherwise the video lasts as long as the sound.
    """

    preset: DicePreset = EXACT
    seed: int = 0
    size: int | None = None  # None: the preset's
    steps: int | None = None
    crop: bool = True
    guidance: Guidance = field(default_factory=Guidance)
    audio_scale: float = 1.0
    emotion_scale: float = 1.0
    motion_bucket: float = 8.0  # how much the head moves
    expression_bucket: float = 16.0  # how much the face moves
    windows: WindowPlan = field(default_factory=WindowPlan)
    published_length: bool = False

    def __post_init__(self) -> None:
        for name in ("audio_scale", "emotion_scale"):
            if not 0 <= getattr(self, name) <= 5:
                raise UsageError(f"{name} must lie in 0..5, got {getattr(self, name):g}")
        for name in ("motion_bucket", "expression_bucket"):
            if not 0 <= getattr(self, name) <= 255:
                raise UsageError(f"{name} must lie in 0..255, got {getattr(self, name):g}")
