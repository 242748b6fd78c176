"""What a scene is: who speaks which words with what emotion, what is heard beneath, and what shall be made of it.

The published schema is `scene.schema.json` beside this file. Everything is checked here but files, which
`affetto.scene.loading` looks at, so that all that is wrong is told at once.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from affetto.conditioning.calibration import EMBEDDED, NONE
from affetto.conditioning.track import TRACK_SUFFIXES, EmotionTrack

SUGGEST = "suggest"
SOLO = "speaker"
"""The name of the only speaker of a scene without a cast."""

Output = Literal[
    "voice",
    "curves",
    "mesh",
    "head",
    "talking",
    "video",
    "score",
    "music",
    "mix",
    "subtitles",
    "timeline",
    "track",
    "sheet",
]
OUTPUTS: Mapping[str, str] = {
    "voice": "voice.wav: the speech with its emotion, one file for each speaker",
    "curves": "face.csv: facial curves for Unreal (Live Link Face)",
    "mesh": "face.glb: animated 3D head",
    "head": "head.mp4: the 3D head speaks, with the mixed sound",
    "talking": "talking.mp4: the portrait speaks, with the mixed sound",
    "video": "video.mp4: portrait and head side by side, or the one there is",
    "score": "score.mid: the music as notes",
    "music": "music.wav: the music alone",
    "mix": "mix.wav: voices and music",
    "subtitles": "subtitles.srt and .vtt: the words, with emotion cues",
    "timeline": "timeline.otio and timeline.edl: shots and turns for editing programs",
    "track": "emotion.csv, emotion.mid, emotion.usda: the emotion over time",
    "sheet": "sheet.png: a contact sheet of the whole scene",
}
DEFAULT_OUTPUTS: tuple[Output, ...] = ("voice", "curves", "head", "mix", "subtitles", "track", "sheet")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


def is_track_file(text: str) -> bool:
    """Whether an emotion is given as the name of a file."""
    return "\n" not in text and Path(text.strip()).suffix.lower() in TRACK_SUFFIXES


def _check_emotion(text: str) -> str:
    if text.strip() != SUGGEST and not is_track_file(text):
        EmotionTrack.parse(text)
    return text.strip()


EmotionText = Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(_check_emotion)]
Gain = Annotated[float, Field(ge=0, le=2, description="Scales the emotion's intensity for this generator")]
Lag = Annotated[
    float, Field(ge=-2, le=2, description="Seconds by which the emotion follows here (negative: leads)")
]
Amount = Annotated[float, Field(ge=0, le=3)]
Shapes = dict[str, Annotated[float, Field(ge=-4, le=4)]]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Consent(_Strict):
    """Who may be shown or heard, and why; recorded in the recipe."""

    kind: Literal["self", "licensed", "synthetic", "public-domain"]
    by: str | None = Field(default=None, max_length=200, description="Who gave it")
    note: str | None = Field(default=None, max_length=2000)
    date: datetime.date | None = None


class Provenance(_Strict):
    """Where the material comes from; recorded in the recipe."""

    author: str | None = Field(default=None, max_length=200)
    licence: str | None = Field(default=None, max_length=200)
    note: str | None = Field(default=None, max_length=2000)


class VoiceSettings(_Strict):
    """How a speaker's recording takes on the emotion."""

    convert: bool = Field(default=True, description="false keeps the recording as it is")
    gain: Gain = 1.0
    lag: Lag = 0.0
    level: float = Field(
        default=0.0, ge=0, le=2, description="How much of the emotion's own loudness is let through"
    )
    keep_timing: bool = Field(default=False, description="Every word stays where it is")
    volume_db: float = Field(default=0.0, ge=-40, le=20)
    pan: float = Field(default=0.0, ge=-1, le=1, description="-1 left, 1 right")


class FaceSettings(_Strict):
    """How the face plays it."""

    gain: Gain = 1.0
    lag: Lag = 0.0
    articulation: Amount = 1.1
    head_motion: Amount = 1.0
    blinks: Amount = 1.0
    gaze: Amount = 1.0
    gains: Shapes = Field(default={}, description="Factors by ARKit blend shape")
    offsets: Shapes = Field(default={}, description="Added to ARKit blend shapes")

    @field_validator("gains", "offsets")
    @classmethod
    def _known(cls, shapes: dict[str, float]) -> dict[str, float]:
        from affetto.media.animation.curves import ARKIT_INDEX

        for name in shapes:
            if name not in ARKIT_INDEX:
                raise ValueError(f"no blend shape {name!r}: use an ARKit name such as jawOpen")
        return shapes


class HeadSettings(_Strict):
    """Whose 3D head it is: a seed, or coefficients by mode."""

    identity: int | dict[Annotated[int, Field(ge=0)], float] | None = None


class PortraitSettings(_Strict):
    """The picture that speaks."""

    image: Path
    landmarks: Path | None = Field(default=None, description="68 points of the face, instead of finding it")
    gain: Gain = 1.0
    lag: Lag = 0.0
    face: int = Field(default=1, ge=1, le=99, description="Which of several faces, from the left")
    motion: Literal["face", "own"] = Field(
        default="face", description="Played like the 3D face, or a performance of its own"
    )


class Spoken(_Strict):
    """Who speaks a text that nobody has recorded (extra tts)."""

    voice: Literal["female", "male"] = "female"
    words_per_minute: int = Field(default=160, ge=80, le=300)


class Speaker(_Strict):
    """One of the cast."""

    voice: VoiceSettings = VoiceSettings()
    face: FaceSettings = FaceSettings()
    head: HeadSettings = HeadSettings()
    portrait: PortraitSettings | None = None
    tts: Spoken = Spoken()
    listening: EmotionText = Field(default="neutral", description="What is felt while others speak")
    consent: Consent | None = None


class Reply(_Strict):
    """An answer to what someone wrote, by a template or an OpenAI-compatible endpoint of the user's own."""

    to: str = Field(min_length=1, max_length=8000, description="What someone wrote")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        max_length=500,
        description="Base address, such as http://127.0.0.1:8080/v1",
    )
    model: str | None = Field(default=None, max_length=200)
    key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the key",
    )
    timeout_s: float = Field(default=60.0, gt=0, le=600)


class Speech(_Strict):
    """Something said: a recording (with its words, for exact lips and subtitles), a text, or a reply."""

    audio: Path | None = Field(default=None, description="WAV, FLAC, OGG or MP3")
    text: str | None = Field(
        default=None,
        min_length=1,
        max_length=20_000,
        description="The words of the recording; without one, what is to be said",
    )
    reply: Reply | None = None
    language: str = Field(default="en-us", pattern=r"^[A-Za-z][A-Za-z0-9-]*$", max_length=20)
    emotion: EmotionText | None = Field(
        default=None,
        description="Text form, track file, or 'suggest': read from the words; seconds of the recording",
    )
    pause: float = Field(
        default=0.35, ge=0, le=600, description="Seconds of silence before it (none before the first)"
    )
    start: float | None = Field(
        default=None, ge=0, le=36_000, description="Seconds from the start of its shot; may overlap"
    )


class Turn(Speech):
    """One speech of a dialogue."""

    speaker: Name


class Shot(_Strict):
    """A stretch of the timeline under one camera."""

    name: str = Field(default="", max_length=80)
    view: str = Field(default="speaking", description="speaking, all (side by side), or a speaker's name")
    turns: list[Turn] = Field(min_length=1, max_length=2000)
    hold: float = Field(default=0.0, ge=0, le=600, description="Seconds of silence after its last words")


class MusicBed(_Strict):
    """Music beneath the speech."""

    emotion: EmotionText | None = Field(
        default=None, description="Its own course; without one it follows the scene"
    )
    gain: Gain = 1.0
    lag: Lag = 0.0
    key: str | None = Field(default=None, max_length=20)
    tempo: float | None = Field(default=None, ge=30, le=240)
    metre: Literal["4/4", "3/4", "2/4"] = "4/4"
    ensemble: bool = False
    like: Path | None = Field(default=None, description="A MIDI file whose harmony and rhythm it takes")
    level_db: float = Field(default=-9.0, ge=-60, le=20, description="Loudness against the voices, LU")
    ducking_db: float = Field(default=6.0, ge=0, le=40, description="How much softer while someone speaks")
    tail: float = Field(default=1.5, ge=0, le=60, description="Seconds it goes on after the last words")
    on_the_bar: bool = Field(
        default=True, description="Bend the tempo so that bar lines meet the emotion's keys"
    )

    @field_validator("key")
    @classmethod
    def _known(cls, key: str | None) -> str | None:
        if key is not None:
            from affetto.generators.music.form import parse_key  # stands on numpy and more

            parse_key(key)
        return key


class Scene(_Strict):
    """A scene: one speaker (`speech`, `emotion`, `speaker`), or a `cast` with `turns` or `shots`."""

    affetto: Literal[1] = Field(default=1, description="Version of the form")
    title: str = Field(default="", max_length=200)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    fps: float = Field(default=25.0, ge=10, le=60)
    size: int = Field(default=512, ge=64, le=2160, description="Pixels a side of each picture")
    loudness: float = Field(default=-16.0, ge=-40, le=-6, description="LUFS of the mix")
    speech: Speech | None = None
    emotion: EmotionText = Field(default="neutral", description="For every speech that names none")
    speaker: Speaker | None = None
    cast: dict[Name, Speaker] = Field(default={}, max_length=16)
    turns: list[Turn] = Field(default=[], max_length=2000)
    shots: list[Shot] = Field(default=[], max_length=500)
    music: MusicBed | None = None
    calibration: str = Field(
        default=EMBEDDED,
        min_length=1,
        max_length=4096,
        description="Ask-vs-get curves that make strength linear: embedded, none, or a file of `affetto evaluate --sweep`",
    )
    outputs: list[Output] = Field(default=list(DEFAULT_OUTPUTS), min_length=1, max_length=len(OUTPUTS))
    provenance: Provenance | None = None

    @property
    def speakers(self) -> Mapping[str, Speaker]:
        """The cast by name; one speaker when the scene has none."""
        return self.cast or {SOLO: self.speaker or Speaker()}

    @property
    def shot_list(self) -> tuple[Shot, ...]:
        """The shots; one that holds all turns when the scene names none."""
        if self.shots:
            return tuple(self.shots)
        if self.turns:
            return (Shot(turns=self.turns),)
        assert self.speech is not None, "a scene without speech does not load"
        fields = {name: getattr(self.speech, name) for name in type(self.speech).model_fields}
        return (Shot(turns=[Turn(speaker=SOLO, **fields)]),)

    @property
    def calibration_file(self) -> Path | None:
        """The calibration where it is a file."""
        return None if self.calibration in (EMBEDDED, NONE) else Path(self.calibration)

    def wants(self, *outputs: str) -> bool:
        """Whether any of these outputs is asked for."""
        return any(name in self.outputs for name in outputs)


def schema() -> dict[str, Any]:
    """The JSON Schema of the form, as published in scene.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://affetto.dev/schema/scene-1.json",
        **Scene.model_json_schema(),
    }
