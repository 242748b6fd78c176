"""Classifier-free guidance over what the denoiser is told: the published three branches, and one more for the emotion."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Branch:
    """What one pass of the denoiser is told."""

    image: bool
    audio: bool
    emotion: bool


NOTHING = Branch(image=False, audio=False, emotion=False)
IMAGE = Branch(image=True, audio=False, emotion=False)
SPOKEN = Branch(image=True, audio=True, emotion=False)
ALL = Branch(image=True, audio=True, emotion=True)


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How far the prediction goes towards image, speech and emotion: e0 + gi (ei - e0) + ga (ea - ei) + ge (eae - ea).

    DICE-Talk has one scale for speech and emotion together, e0 + gi (ei - e0) + g (eae - ei): that is this rule at equal
    scales, and is what `emotion` None or equal to `audio` computes, with three passes. Another scale takes a fourth.
    """

    image: float = 3.0
    audio: float = 6.0
    emotion: float | None = None

    def __post_init__(self) -> None:
        for name in ("image", "audio", "emotion"):
            scale = getattr(self, name)
            if scale is not None and not 0 <= scale <= 30:
                raise UsageError(f"the guidance of {name} must lie in 0..30, got {scale:g}")

    @property
    def separate(self) -> bool:
        """Whether the emotion has a scale of its own."""
        return self.emotion is not None and self.emotion != self.audio

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The passes that are needed, from least told to most."""
        return (NOTHING, IMAGE, SPOKEN, ALL) if self.separate else (NOTHING, IMAGE, ALL)

    def combine(
        self, predictions: Float[Tensor, "branch frame channel row column"]
    ) -> Float[Tensor, "frame channel row column"]:
        """The guided prediction from those of `branches`, in their order."""
        scales = (self.image, self.audio, self.emotion) if self.separate else (self.image, self.audio)
        guided = predictions[0]
        for scale, less, more in zip(scales, predictions[:-1], predictions[1:], strict=True):
            guided = guided + (scale or 0.0) * (more - less)
        return guided
