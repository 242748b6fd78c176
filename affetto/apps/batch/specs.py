"""What one job asks for: a pydantic model for each generator, and their union as the published manifest schema."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

Amount = Annotated[float, Field(ge=0.0, le=3.0)]
Strength = Annotated[float, Field(ge=0.0, le=2.0)]

MAX_SEED = 2**31 - 1


class JobSpec(BaseModel):
    """What every job has; paths of inputs are absolute once a manifest is read, `output` is relative to the batch's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    FILES: ClassVar[tuple[str, ...]] = ()
    SUFFIXES: ClassVar[tuple[str, ...]] = ()

    id: str | None = Field(
        default=None, max_length=200, description="A name of your own, unique in the batch."
    )
    emotion: str | None = Field(default=None, description="An emotion, a track, or the path of a track file.")
    output: str = Field(
        min_length=1, max_length=400, description="Where to write, relative to the batch's folder."
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="Drawn from the batch's seed and the job when left out."
    )

    @field_validator("output")
    @classmethod
    def _inside(cls, output: str) -> str:
        """Refuse what would leave the folder or mean another file on another system."""
        path = PurePosixPath(output)
        if path.is_absolute() or "\\" in output or ":" in output or ".." in path.parts:
            raise ValueError("leaves the output folder: use a relative path with /, without ..")
        if any(part.startswith(".") or ord(min(part)) < 32 for part in path.parts):
            raise ValueError("has a hidden or unprintable part: use plain names")
        if path.suffix.lower() not in cls.SUFFIXES:
            raise ValueError(
                f"nobody writes {path.suffix or 'a name without suffix'}: use {' '.join(cls.SUFFIXES)}"
            )
        return str(path)

    @property
    def kind(self) -> str:
        """The generator's name."""
        return str(getattr(self, "generator"))  # noqa: B009  every subclass has it, as its own literal type

    def files(self) -> Iterator[tuple[str, Path]]:
        """The input files that are given, by field."""
        for name in self.FILES:
            value = getattr(self, name)
            if value is not None:
                yield name, Path(value)

    def canonical(self) -> dict[str, Any]:
        """The parameters that decide what comes out: no name of your own, no place, no input path, defaults filled in."""
        return self.model_dump(mode="json", exclude={"id", "output", *self.FILES}) | {
            "suffix": PurePosixPath(self.output).suffix.lower()
        }


class FaceJob(JobSpec):
    """Speech to facial animation (`affetto face`)."""

    FILES = ("audio",)
    SUFFIXES = (".csv", ".glb", ".usda", ".usdc", ".json", ".npz", ".mp4")

    generator: Literal["face"]
    audio: Path
    text: str | None = None
    language: str | None = None
    fps: Annotated[float, Field(ge=10.0, le=120.0)] = 30.0
    articulation: Amount = 1.1
    head_motion: Amount = 1.0
    blinks: Amount = 1.0
    gaze: Amount = 1.0
    size: Annotated[int, Field(ge=64, le=2160)] = 512


class VoiceJob(JobSpec):
    """Another emotion for a recorded voice (`affetto voice`)."""

    FILES = ("audio", "bank")
    SUFFIXES = (".wav", ".flac")

    generator: Literal["voice"]
    audio: Path
    bank: Path | None = None
    strength: Strength = 1.0
    level: Strength = 0.0
    keep_timing: bool = False
    steps: Annotated[int, Field(ge=1, le=64)] = 6


class MusicJob(JobSpec):
    """A piece of music (`affetto music`)."""

    FILES = ("like",)
    SUFFIXES = (".mid", ".midi", ".wav", ".png")

    generator: Literal["music"]
    like: Path | None = None
    mode: Literal["vary", "continue", "rhythm", "harmony"] = "vary"
    seconds: Annotated[float, Field(gt=0.0, le=3600.0)] | None = None
    bars: Annotated[int, Field(ge=1, le=512)] | None = None
    key: str | None = None
    tempo: Annotated[float, Field(ge=30.0, le=240.0)] | None = None
    metre: Literal["4/4", "3/4", "2/4"] | None = None
    ensemble: Literal["piano", "ensemble"] = "piano"
    loop: bool = False
    ending: Literal["cadence", "open"] = "cadence"


class TalkJob(JobSpec):
    """A photo that speaks (`affetto talk`)."""

    FILES = ("portrait", "audio", "motion", "landmarks")
    SUFFIXES = (".mp4", ".mov", ".csv", ".json", ".npz", ".glb")

    generator: Literal["talk"]
    portrait: Path
    audio: Path
    motion: Path | None = None
    landmarks: Path | None = None
    face: Annotated[int, Field(ge=1, le=99)] | None = None
    fps: Annotated[float, Field(ge=10.0, le=60.0)] = 25.0
    size: Annotated[int, Field(ge=256, le=1080)] | None = None
    frame: Literal["whole", "9:16", "16:9", "1:1", "4:5"] = "whole"
    audio_guidance: Annotated[float, Field(ge=0.0, le=5.0)] = 2.0
    emotion_guidance: Annotated[float, Field(ge=0.0, le=5.0)] = 1.5
    articulation: Amount = 1.1
    head_motion: Amount = 1.0
    blinks: Amount = 1.0
    gaze: Amount = 1.0


class RenderJob(JobSpec):
    """A whole scene (`affetto render`): `output` is NAME/recipe.json, and all that the scene asks for lies beside it."""

    FILES = ("scene",)
    SUFFIXES = (".json",)

    generator: Literal["render"]
    scene: Path
    size: Annotated[int, Field(ge=64, le=2160)] | None = None

    @field_validator("output")
    @classmethod
    def _in_a_folder(cls, output: str) -> str:
        """A scene fills a folder, and its recipe is the last file to appear there."""
        if PurePosixPath(output).name != "recipe.json" or len(PurePosixPath(output).parts) < 2:
            raise ValueError("a scene fills a folder: write NAME/recipe.json")
        return output


AnyJob = Annotated[FaceJob | VoiceJob | MusicJob | TalkJob | RenderJob, Field(discriminator="generator")]
JOB: TypeAdapter[FaceJob | VoiceJob | MusicJob | TalkJob | RenderJob] = TypeAdapter(AnyJob)
KINDS: dict[str, type[JobSpec]] = {
    "face": FaceJob,
    "voice": VoiceJob,
    "music": MusicJob,
    "talk": TalkJob,
    "render": RenderJob,
}


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one line of a JSONL manifest."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "affetto batch job",
    } | JOB.json_schema()
