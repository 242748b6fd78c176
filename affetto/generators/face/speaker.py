"""`NetworkSpeaker`: a face for speech that was only heard."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from affetto.acting.rules import viseme_curves
from affetto.generators.face.motion import MotionModel
from affetto.generators.face.performance import Window
from affetto.speech.decide import decided, timed_phones


class NetworkSpeaker:
    """A `Speak` of decided phones: their lips by rule, and upon them what the network changes when it feels.

    The network plays every window twice, with its emotion and with none; only the difference is taken, so that what
    it blurs in either version of the speech cancels out, and speech without emotion is the rules' own.
    """

    def __init__(self, motion: MotionModel) -> None:
        self._motion = motion

    def __call__(self, windows: Sequence[Window]) -> Sequence[Float[np.ndarray, "frame 52"]]:
        """The weights of each window at the rate of its content."""
        contents = [decided(window.content) for window in windows]
        emotions = [window.emotion for window in windows]
        played = self._motion(contents * 2, emotions + [emotion.removed() for emotion in emotions])
        felt, calm = played[: len(windows)], played[len(windows) :]
        lips = [
            viseme_curves(timed_phones(content), content.seconds, content.fps, energy=content.loudness)
            for content in contents
        ]
        return [
            np.clip(spoken + with_it - without, 0.0, 1.0)
            for spoken, with_it, without in zip(lips, felt, calm, strict=True)
        ]
