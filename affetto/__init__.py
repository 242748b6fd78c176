"""affetto: generative affective media. One emotion, as a value or a curve, drives face, voice, portrait and music."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from affetto.conditioning.emotion import Emotion
    from affetto.conditioning.track import EmotionTrack
    from affetto.generators.face.pipeline import FaceAnimator
    from affetto.generators.music.pipeline import MusicComposer
    from affetto.generators.portrait.pipeline import TalkingHead, TalkOptions
    from affetto.generators.voice.pipeline import VoiceConverter
    from affetto.head.model import HeadModel
    from affetto.media.animation.curves import FaceCurves
    from affetto.media.audio import Audio, load_audio
    from affetto.scene.director import Director
    from affetto.scene.model import Scene

__version__ = "0.1.0"

_HOMES = {
    "Audio": "affetto.media.audio",
    "Director": "affetto.scene.director",
    "Emotion": "affetto.conditioning.emotion",
    "EmotionTrack": "affetto.conditioning.track",
    "FaceAnimator": "affetto.generators.face.pipeline",
    "FaceCurves": "affetto.media.animation.curves",
    "HeadModel": "affetto.head.model",
    "MusicComposer": "affetto.generators.music.pipeline",
    "Scene": "affetto.scene.model",
    "TalkOptions": "affetto.generators.portrait.pipeline",
    "TalkingHead": "affetto.generators.portrait.pipeline",
    "VoiceConverter": "affetto.generators.voice.pipeline",
    "load_audio": "affetto.media.audio",
}

__all__ = [
    "Audio",
    "Director",
    "Emotion",
    "EmotionTrack",
    "FaceAnimator",
    "FaceCurves",
    "HeadModel",
    "MusicComposer",
    "Scene",
    "TalkOptions",
    "TalkingHead",
    "VoiceConverter",
    "__version__",
    "load_audio",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562), so that `import affetto` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'affetto' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
