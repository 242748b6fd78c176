"""What a render will do, before it does it: steps, shapes, seconds, memory, models and licences."""

import ctypes.util
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affetto.media.audio import probe_audio
from affetto.scene.model import SOLO, Scene
from affetto.scene.segments import Segment, canvas
from affetto.weights.registry import REGISTRY

FIXED_MIB = 820.0
"""Resident memory of Python, torch and the embedded models before a second of sound is read."""

_SPEECH_RATE = 15.0  # letters a second of spoken text at 160 words a minute
_SECONDS_A_SECOND = {
    "voice": 0.35,
    "read": 0.05,
    "face": 0.12,
    "music": 0.17,
    "play": 0.1,
    "mix": 0.05,
    "sync": 0.5,
}
"""Processor seconds for each second of the timeline (voice, face and reading: of each speaker's words), measured on two cores."""
_PIXELS_A_SECOND = 12e6  # of the 3D head, drawn and encoded, one core
_STEM_MIB = 0.45  # a second of one voice: source, stem, features and curves
_MIX_MIB = 1.5  # a second of the mix and music, with working copies

MODELS: Mapping[str, tuple[str, ...]] = {
    "voice": ("voice-bank", "voice-embedding", "voice-residual"),
    "read": ("face-content",),
    "face": ("face-motion", "head"),
    "music": ("music-composer", "music-copycheck"),
}


def words_can_be_read() -> bool:
    """Whether espeak-ng is here, which turns words into phones."""
    return (
        importlib.util.find_spec("espeakng_loader") is not None
        or ctypes.util.find_library("espeak-ng") is not None
    )


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the work: what it takes and gives, how long it takes here, which models it runs."""

    name: str
    what: str
    shape: str
    compute_s: float
    models: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole work, estimated for one core of an ordinary computer."""

    seconds: float  # of the timeline; texts that are still to be spoken are estimated
    frames: int
    size: tuple[int, int]
    steps: tuple[Step, ...]
    memory_mib: float
    outputs: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def compute_s(self) -> float:
        """Estimated processor seconds of all steps."""
        return sum(step.compute_s for step in self.steps)

    def document(self) -> dict[str, Any]:
        """Plain values for JSON."""
        models = sorted({model for step in self.steps for model in step.models})
        return {
            "seconds": round(self.seconds, 2),
            "frames": self.frames,
            "size": list(self.size),
            "compute_s": round(self.compute_s, 1),
            "memory_mib": round(self.memory_mib),
            "steps": [{**asdict(step), "compute_s": round(step.compute_s, 1)} for step in self.steps],
            "models": [
                {"id": name, "licence": REGISTRY[name].licence, "commercial": REGISTRY[name].commercial}
                for name in models
            ],
            "outputs": list(self.outputs),
            "warnings": list(self.warnings),
        }


def plan_scene(scene: Scene, base: Path, *, reads_words: bool) -> Plan:
    """The plan of a scene; reads headers only."""
    spoken, seconds, segments, warnings = _lengths(scene, base)
    frames = round(seconds * scene.fps)
    size = canvas(segments, (scene.size, scene.size))
    speakers = list(spoken)
    steps = list(_steps(scene, spoken, seconds, size))
    if any(turn.text and turn.audio for shot in scene.shot_list for turn in shot.turns) and not reads_words:
        warnings.append("the lips follow the sound, not the words: pip install 'affetto[tts]' reads words")
    memory = FIXED_MIB + seconds * (_STEM_MIB * len(speakers) + _MIX_MIB)
    memory += 30.0 * size[0] * size[1] / 512**2
    if scene.wants("talking", "video") and any(s.portrait for s in scene.speakers.values()):
        memory += 180.0
    return Plan(
        seconds=seconds,
        frames=frames,
        size=size,
        steps=tuple(steps),
        memory_mib=memory,
        outputs=tuple(output_names(scene)),
        warnings=tuple(warnings),
    )


def _lengths(scene: Scene, base: Path) -> tuple[dict[str, float], float, list[Segment], list[str]]:
    """Seconds of words by speaker, seconds of the timeline, who is seen together at most, and warnings."""
    spoken: dict[str, float] = {}
    cursor, segments, guessed = 0.0, [], 0
    for shot in scene.shot_list:
        begin, end = cursor, cursor
        for turn in shot.turns:
            if turn.audio is not None:
                length = probe_audio(base / turn.audio).seconds
            else:
                text = turn.text or "x" * 90  # a reply is about that long
                rate = scene.speakers[turn.speaker].tts.words_per_minute / 160.0
                length, guessed = max(len(text) / (_SPEECH_RATE * rate), 0.5), guessed + 1
            start = begin + turn.start if turn.start is not None else end + (turn.pause if end else 0.0)
            spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + length
            end = max(end, start + length)
        cursor = end + shot.hold
        names = tuple(scene.speakers) if shot.view == "all" else (SOLO,)
        segments.append(Segment(start=0, stop=1, names=names))
    warnings = [f"the length of {guessed} texts is estimated"] if guessed else []
    return spoken, cursor + (scene.music.tail if scene.music else 0.0), segments, warnings


def _steps(
    scene: Scene, spoken: Mapping[str, float], seconds: float, size: tuple[int, int]
) -> Sequence[Step]:
    words = sum(spoken.values())
    converted = sum(length for name, length in spoken.items() if scene.speakers[name].voice.convert)
    frames = round(seconds * scene.fps)
    cost = _SECONDS_A_SECOND
    pictures = scene.wants("curves", "mesh", "head", "video", "sheet", "talking")
    steps = [Step(name="read", what="what is said, read once for every picture", shape=f"{round(words * 50)} frames x 46 phones",
                  compute_s=cost["read"] * words, models=MODELS["read"])]  # fmt: skip
    if converted:
        steps.append(Step(name="voice", what="each recording takes on its emotion; time maps move track and lips",
                          shape=f"{converted:.1f} s of speech", compute_s=cost["voice"] * converted,
                          models=MODELS["voice"], after=("read",)))  # fmt: skip
    if pictures:
        steps.append(Step(name="face", what="curves of every speaker", shape=f"{len(spoken)} x {frames} frames x 59 channels",
                          compute_s=cost["face"] * seconds * len(spoken), models=MODELS["face"], after=("read", "voice")))  # fmt: skip
    if scene.music is not None:
        steps.append(Step(name="music", what="notes that follow the emotion, and their sound", shape=f"{seconds:.1f} s, 2 channels",
                          compute_s=(cost["music"] + cost["play"]) * seconds, models=MODELS["music"], after=("voice",)))  # fmt: skip
    steps.append(Step(name="mix", what=f"voices and music at {scene.loudness:g} LUFS", shape=f"{round(seconds * 48000)} samples x 2",
                      compute_s=cost["mix"] * seconds, after=("voice", "music")))  # fmt: skip
    videos = [name for name in ("head", "talking", "video") if name in scene.outputs]
    pixels = frames * size[0] * size[1]
    steps += [
        Step(name=name, what=f"{name}.mp4", shape=f"{frames} frames of {size[0]}x{size[1]}",
             compute_s=pixels / _PIXELS_A_SECOND, after=("face", "mix"))
        for name in videos
    ]  # fmt: skip
    if pictures:
        steps.append(Step(name="sync", what="lags measured on what was made", shape=f"{min(seconds, 60):.0f} s",
                          compute_s=cost["sync"] * min(seconds, 60.0), after=("face", "voice")))  # fmt: skip
    return steps


def output_names(scene: Scene) -> list[str]:
    """The names of the files a render writes (subtitles only where words are known)."""
    many = len(scene.speakers) > 1
    found: list[str] = []
    for name, pattern in (("voice", "voice{}.wav"), ("curves", "face{}.csv"), ("mesh", "face{}.glb")):
        if scene.wants(name):
            found += [pattern.format(f"-{who}" if many else "") for who in scene.speakers]
    single = {
        "head": ("head.mp4",), "talking": ("talking.mp4",), "video": ("video.mp4",), "score": ("score.mid",),
        "music": ("music.wav",), "mix": ("mix.wav",), "subtitles": ("subtitles.srt", "subtitles.vtt"),
        "timeline": ("timeline.otio", "timeline.edl"),
        "track": ("emotion.csv", "emotion.emotion.json", "emotion.mid", "emotion.usda"), "sheet": ("sheet.png",),
    }  # fmt: skip
    for name, files in single.items():
        found += files if scene.wants(name) else ()
    return [*found, "sync.json", "recipe.json"]
