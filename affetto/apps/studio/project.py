"""What a creator works on: speech, portrait, words, the emotion's keys, trims and wishes; saved at every change."""

import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from affetto.conditioning.charts import get_chart
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.interpolation import parse_ease
from affetto.conditioning.track import EmotionTrack
from affetto.media.audio import load_audio, look_at_sound, probe_audio
from affetto.media.image import look_at_picture
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path

MODALITIES = ("voice", "face", "portrait", "music")
DRAWN_EASES = ("linear", "hold", "cosine", "smoothstep", "catmull-rom", "bezier")
SILENT_S = 8.0  # the timeline's length before there is speech
MAX_SPEECH_S = 600.0

PRESETS: Mapping[str, str] = {
    "Warm welcome": "0:neutral; 0.6:happy@0.8~cosine; 3:happy@0.5",
    "Bad news": "0:neutral; 1:sad@0.5~cosine; 3:sad@0.9",
    "Slow burn": "0:neutral; 1.5:angry@0.3~smoothstep; 4:angry@1",
    "Good surprise": "0:neutral; 1:surprised@0.9; 2:happy@0.9",
    "Fright": "0:neutral; 0.8:fear@0.9; 3:fear@0.4",
    "Deadpan": "0:neutral",
}
_SNAP_RISE = 4.0  # times louder than before: here something begins


class Key(BaseModel):
    """An emotion at a time: a name, or a point of valence, arousal and dominance; `ease` shapes the way to the next."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    t: float = Field(ge=0, le=36_000)
    label: str | None = Field(default=None, max_length=40, pattern=r"^[a-z][a-z -]*$")
    v: float = Field(default=0.0, ge=-1, le=1)
    a: float = Field(default=0.0, ge=-1, le=1)
    d: float = Field(default=0.0, ge=-1, le=1)
    i: float = Field(default=1.0, ge=0, le=2)
    ease: str = Field(default="linear", max_length=60)

    @field_validator("ease")
    @classmethod
    def _drawn(cls, ease: str) -> str:
        """Refuse what no timeline draws; `bezier(x1,y1,x2,y2)` is what its handles make."""
        kind = parse_ease(ease).kind
        if kind not in DRAWN_EASES:
            raise ValueError(f"the timeline draws {', '.join(DRAWN_EASES)}")
        return ease

    @property
    def text(self) -> str:
        """The key in the text form of tracks."""
        what = self.label or f"vad({self.v:.3f},{self.a:.3f},{self.d:.3f})"
        strength = "" if what == "neutral" else f"@{self.i:.3g}"
        return f"{self.t:.3f}:{what}{strength}~{self.ease}"


class Trim(BaseModel):
    """How much of the emotion a generator takes on, and how many seconds later."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    gain: float = Field(default=1.0, ge=0, le=2)
    lag: float = Field(default=0.0, ge=-2, le=2)


class Project(BaseModel):
    """One performance in the making. Files are named relative to the project's folder."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    title: str = Field(default="Untitled", max_length=120)
    speech: str | None = None
    portrait: str | None = None
    points: list[tuple[float, float]] | None = Field(default=None, min_length=68, max_length=68)
    words: str = Field(default="", max_length=20_000)
    language: str = Field(default="en-us", pattern=r"^[A-Za-z][A-Za-z0-9-]*$", max_length=20)
    keys: list[Key] = Field(default_factory=lambda: [Key(t=0.0, label="neutral", i=0.0)], max_length=500)
    trims: dict[Literal["voice", "face", "portrait", "music"], Trim] = Field(
        default_factory=lambda: {"voice": Trim(), "face": Trim(), "portrait": Trim(), "music": Trim()}
    )
    convert_voice: bool = True
    music: bool = True
    music_key: str = Field(default="", max_length=20)
    size: int = Field(default=512, ge=64, le=1080)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    seed_locked: bool = True

    @property
    def track(self) -> EmotionTrack:
        """The course of emotion that the keys draw; raises UsageError for times that repeat or unknown names."""
        keys = sorted(self.keys, key=lambda key: key.t)
        return EmotionTrack.parse("; ".join(key.text for key in keys) or "neutral")


class ProjectFolder:
    """A project on disk: `project.json`, the media it uses, and its renders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """The folder's name, by which the studio knows the project."""
        return self.path.name

    def load(self) -> Project:
        """The project as it was last saved; a new one when there is none. Raises InvalidInputError for a damaged file."""
        file = self.path / "project.json"
        if not file.is_file():
            return Project()
        try:
            return Project.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"{file}: cannot be read ({str(error)[:80]}): move it away to begin anew"
            ) from error

    def save(self, project: Project) -> None:
        """Save it, whole."""
        with atomic_path(self.path / "project.json") as temporary:
            temporary.write_text(project.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def take_speech(self, source: Path) -> str:
        """Copy a recording into the project after looking at it; its new name."""
        info = look_at_sound(source, max_seconds=MAX_SPEECH_S)
        if info.seconds < 0.2:
            raise InvalidInputError(
                f"{source.name}: lasts {info.seconds:.2f} s: give at least 0.2 s of speech"
            )
        return self._take(source, "speech")

    def take_portrait(self, source: Path) -> str:
        """Copy a picture into the project after looking at it; its new name."""
        look_at_picture(source)
        return self._take(source, "portrait")

    def _take(self, source: Path, kind: str) -> str:
        """A fresh name for each, so that earlier renders keep what they were made from."""
        suffix = source.suffix.lower()
        number = 1 + max(
            (int(m[1]) for p in self.path.glob(f"{kind}-*") if (m := re.match(rf"{kind}-(\d+)\.", p.name))),
            default=0,
        )
        target = self.path / f"{kind}-{number}{suffix}"
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return target.name

    def duration(self, project: Project) -> float:
        """Seconds of the timeline."""
        if project.speech is None or not (self.path / project.speech).is_file():
            return max(SILENT_S, *(key.t for key in project.keys))
        return probe_audio(self.path / project.speech, max_seconds=None).seconds

    def new_render(self) -> Path:
        """A folder for the next render, numbered."""
        renders = self.path / "renders"
        renders.mkdir(exist_ok=True)
        number = 1 + max((int(p.name) for p in renders.iterdir() if p.name.isdecimal()), default=0)
        folder = renders / f"{number:03d}"
        folder.mkdir()
        return folder

    def write_scene(self, project: Project, folder: Path, *, preview: bool) -> Path:
        """The scene that a render of this project is, as a file in its folder. A preview is small and leaves the voice as it is."""
        if project.speech is None and not project.words.strip():
            raise UsageError("there is nothing to say yet: record or upload speech, or write the words")
        speech: dict[str, Any] = {"language": project.language, "emotion": str(project.track)}
        if project.speech is not None:
            speech["audio"] = f"../../{project.speech}"
        if project.words.strip():
            speech["text"] = project.words.strip()
        trims = {name: trim.model_dump() for name, trim in project.trims.items()}
        speaker: dict[str, Any] = {
            "voice": {**trims["voice"], "convert": project.convert_voice and not preview},
            "face": trims["face"],
        }
        outputs = ["voice", "curves", "mesh", "mix", "subtitles", "track"]
        if project.portrait is not None:
            speaker["portrait"] = {"image": f"../../{project.portrait}", **trims["portrait"]}
            if project.points is not None:
                write_points(folder / "landmarks.json", project.points)
                speaker["portrait"]["landmarks"] = "landmarks.json"
            outputs.append("talking")
        else:
            outputs.append("head")
        scene: dict[str, Any] = {
            "title": project.title, "seed": project.seed, "size": min(project.size, 192) if preview else project.size,
            "speech": speech, "speaker": speaker, "outputs": outputs,
        }  # fmt: skip
        if project.music and not preview:
            scene["music"] = {**trims["music"], **({"key": project.music_key} if project.music_key else {})}
            outputs += ["score", "music", "sheet"]
        file = folder / "scene.yaml"
        with atomic_path(file) as temporary:
            temporary.write_text(yaml.safe_dump(scene, sort_keys=False, allow_unicode=True), encoding="utf-8")
        (folder / "project.json").write_text(project.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return file


def keys_of(track: EmotionTrack) -> list[Key]:
    """The keys that draw a track on the timeline: a name where one tells it all, else its point."""
    keys = []
    for frame in track.keyframes:
        named = frame.emotion.mixture
        label = next(iter(named)) if len(named) == 1 else None
        v, a, d = (float(axis) for axis in frame.emotion.vad)
        ease = str(frame.ease)
        if parse_ease(ease).kind not in DRAWN_EASES:
            ease = "cosine"
        keys.append(
            Key.model_validate(
                {
                    "t": float(frame.time),
                    "label": label,
                    "v": v,
                    "a": a,
                    "d": d,
                    "i": float(frame.emotion.intensity),
                    "ease": ease,
                }
            )
        )
    return keys


def write_points(path: Path, points: Sequence[Sequence[float]]) -> Path:
    """The file of 68 points that `--landmarks` of `affetto talk` reads."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"points": [list(point) for point in points]}), encoding="utf-8")
    return path


def label_points() -> dict[str, list[float]]:
    """Where the named emotions lie in tracks, for the pad and the chips."""
    names = get_chart("lexical").names
    return {name: [round(float(axis), 3) for axis in Emotion.from_label(name).vad] for name in names}


def mixture_at(point: list[float]) -> dict[str, float]:
    """The shares of named emotions at a point of valence, arousal and dominance."""
    chart = get_chart("lexical")
    values = np.array([float(axis) for axis in point], np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise UsageError("an emotion's point has three finite numbers")
    shares = chart.posterior(np.clip(values, -1.0, 1.0))
    named = zip(chart.classes, shares, strict=True)
    return {name: round(float(share), 4) for name, share in named if name != "background"}


def loudness_peaks(path: Path, count: int = 600) -> tuple[list[float], float]:
    """The loudest sample of each of `count` stretches of a recording, and its seconds."""
    audio = load_audio(path, max_seconds=MAX_SPEECH_S)
    mono = np.abs(audio.mono())
    edges = np.linspace(0, len(mono), count + 1).astype(int)
    peaks = [float(mono[a:b].max()) if b > a else 0.0 for a, b in itertools.pairwise(edges)]
    return [round(peak, 4) for peak in peaks], audio.seconds


def speech_onsets(path: Path) -> list[float]:
    """Where the voice sets in after a pause or rises, in seconds: the timeline's keys snap to these."""
    audio = load_audio(path, max_seconds=MAX_SPEECH_S)
    mono = audio.mono()
    hop = max(1, audio.rate // 100)
    power = np.array(
        [float(np.mean(mono[at : at + hop] ** 2)) for at in range(0, max(len(mono) - hop, 1), hop)]
    )
    floor = max(float(np.percentile(power, 20)), 1e-8)
    before = np.array([power[max(0, at - 8) : at].mean() if at else floor for at in range(len(power))])
    rises = (power > _SNAP_RISE * np.maximum(before, floor)) & (power > 1e-6)
    onsets: list[float] = []
    for at in np.flatnonzero(rises):
        if not onsets or at / 100 - onsets[-1] > 0.15:
            onsets.append(round(float(at) / 100, 2))
    return onsets[:2000]


def with_timeline(project: Project, value: Mapping[str, Any]) -> Project:
    """The project with what the timeline's widget sent; raises UsageError when that is no course of emotion."""
    try:
        changed = Project.model_validate(
            project.model_dump() | {"keys": value.get("keys", []), "trims": value.get("trims", {})}
        )
        changed.track.sample(np.array([0.0]))
    except ValidationError as error:
        raise UsageError(f"the timeline sent something else than keys: {str(error)[:120]}") from error
    return changed


def read_recipe_project(folder: Path) -> Project | None:
    """The project that a render was made from."""
    file = folder / "project.json"
    try:
        return Project.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
