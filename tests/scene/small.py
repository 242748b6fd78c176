"""Scenes and timelines small enough for tests."""

from importlib import resources
from pathlib import Path

import numpy as np

from affetto.conditioning.track import MODALITIES, EmotionTrack
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio, load_audio, save_audio
from affetto.scene.lines import Line
from affetto.scene.model import Scene
from affetto.scene.timeline import SpokenLine, Timeline, lay_out
from affetto.speech.content import CONTENT_FPS, SpeechContent
from affetto.speech.phones import PHONES


def hello(folder: Path, start: float = 0.0, stop: float = 2.4) -> Path:
    """The demo's first words as a file."""
    with resources.as_file(resources.files("affetto.media") / "data" / "hello.flac") as path:
        return save_audio(folder / "hello.wav", load_audio(path).sliced(start, stop))


def dialogue() -> Scene:
    """Two speakers, two shots, words known."""
    return Scene.model_validate(
        {
            "title": "Two",
            "cast": {"ada": {"listening": "happy@0.2"}, "bert": {}},
            "shots": [
                {
                    "name": "one",
                    "turns": [
                        {
                            "speaker": "ada",
                            "audio": "a.wav",
                            "text": "Good morning. How are you?",
                            "emotion": "0:neutral; 1:happy",
                        },
                        {
                            "speaker": "bert",
                            "audio": "b.wav",
                            "text": "I am tired & sad <today>.",
                            "emotion": "sad@0.7",
                        },
                    ],
                },
                {
                    "name": "two",
                    "view": "all",
                    "hold": 0.5,
                    "turns": [
                        {
                            "speaker": "ada",
                            "audio": "c.wav",
                            "text": "Oh no!",
                            "emotion": "surprised",
                            "pause": 1.5,
                        }
                    ],
                },
            ],
        }
    )


def spoken(scene: Scene, seconds: float = 2.0) -> list[SpokenLine]:
    """Every turn of a scene as a humming line of `seconds`, said without conversion."""
    lines = []
    for number, shot in enumerate(scene.shot_list):
        for turn in shot.turns:
            audio = hum(seconds)
            track = EmotionTrack.parse(turn.emotion or scene.emotion)
            line = Line(shot=number, turn=turn, audio=audio, words=turn.text, track=track)
            frames = round(seconds * CONTENT_FPS)
            content = SpeechContent(
                fps=CONTENT_FPS,
                phones=np.eye(len(PHONES), dtype=np.float32)[np.arange(frames) // 5 % len(PHONES)],
                closure=np.zeros(frames, np.float32),
                loudness=np.ones(frames, np.float32),
                speaking=np.ones(frames, np.float32),
            )
            lines.append(
                SpokenLine(
                    line=line,
                    audio=audio,
                    time_map=TimeMap.identity(seconds),
                    content=content,
                    phones=None,
                    tracks=dict.fromkeys(("scene", *MODALITIES), track),
                    cues=((0.1, seconds - 0.1, turn.text),) if turn.text else (),
                )
            )
    return lines


def hum(seconds: float, rate: int = 16_000, level: float = 0.2) -> Audio:
    """A tone with syllables."""
    time = np.arange(round(seconds * rate)) / rate
    samples = level * np.sin(2 * np.pi * 150 * time) * np.clip(np.sin(2 * np.pi * 4 * time), 0, 1)
    return Audio(samples=samples[None].astype(np.float32), rate=rate)


def timeline(scene: Scene | None = None, seconds: float = 2.0) -> Timeline:
    """The timeline of such lines."""
    scene = scene or dialogue()
    return lay_out(scene, spoken(scene, seconds))
