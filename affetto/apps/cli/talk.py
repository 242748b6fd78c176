"""`affetto talk`: a portrait, speech and an emotion in, a video of that person saying it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    from affetto.generators.portrait.landmarks import FaceLandmarks
    from affetto.generators.portrait.pipeline import TalkingVideo
    from affetto.generators.portrait.portrait import Portrait
    from affetto.media.audio import Audio
    from affetto.runtime.memory import Layout

SUFFIXES = (".mp4", ".mov", ".png", ".csv", ".json", ".npz", ".glb", ".usda", ".usdc")
FRAMES = ("whole", "9:16", "16:9", "1:1", "4:5")

_FACE = "Face"
_MOTION = "Motion"
_PICTURE = "Picture"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("talk")(talk)


def talk(
    portrait: Annotated[
        Path, typer.Argument(help="A photo or drawing: PNG, JPEG, WebP.", show_default=False)
    ],
    audio: Annotated[
        Path | None, typer.Argument(help="Speech: WAV, FLAC, MP3 or OGG.", show_default=False)
    ] = None,
    emotion: common.EmotionOption = None,
    output: common.OutputsOption = None,
    face: Annotated[
        int | None,
        typer.Option(min=1, help="Which face, 1 is the largest; see --faces.", rich_help_panel=_FACE),
    ] = None,
    faces: Annotated[
        bool, typer.Option("--faces", help="List the faces found and stop.", rich_help_panel=_FACE)
    ] = False,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="68 points of the face in pixels, JSON or CSV.", rich_help_panel=_FACE
        ),
    ] = None,
    motion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Curves that move the face: .csv (Live Link) .json .npz.",
            rich_help_panel=_MOTION,
        ),
    ] = None,
    audio_guidance: Annotated[
        float, typer.Option(help="How strictly the speech is followed, 0 to 5.", rich_help_panel=_MOTION)
    ] = 2.0,
    emotion_guidance: Annotated[
        float, typer.Option(help="How strictly the emotion is followed, 0 to 5.", rich_help_panel=_MOTION)
    ] = 1.5,
    articulation: Annotated[
        float, typer.Option(help="How far the lips travel, 0 to 3.", rich_help_panel=_MOTION)
    ] = 1.1,
    head_motion: Annotated[
        float, typer.Option(help="Head movement, 0 (still) to 3.", rich_help_panel=_MOTION)
    ] = 1.0,
    blinks: Annotated[float, typer.Option(help="Blinks, 0 (never) to 3.", rich_help_panel=_MOTION)] = 1.0,
    gaze: Annotated[
        float, typer.Option(help="Eye movement, 0 (straight ahead) to 3.", rich_help_panel=_MOTION)
    ] = 1.0,
    size: Annotated[
        int | None,
        typer.Option(
            help="Short side in pixels, 256 to 1080; the picture's own if not given.",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    frame: Annotated[
        str,
        typer.Option(metavar="|".join(FRAMES), help="The cut about the face.", rich_help_panel=_PICTURE),
    ] = "whole",
    fps: Annotated[float, typer.Option(help="Frames per second, 10 to 60.", rich_help_panel=_PICTURE)] = 25.0,
    alpha: Annotated[
        bool,
        typer.Option(
            "--alpha", help="Cut the person out in pictures; .mov always does.", rich_help_panel=_PICTURE
        ),
    ] = False,
    preset: Annotated[
        str,
        typer.Option(metavar="exact|fast|preview", help="Time spent, full tier.", rich_help_panel=_PICTURE),
    ] = "exact",
    consent: common.ConsentOption = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    tier: common.TierOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Make PORTRAIT say AUDIO with an emotion.

    Writes what each -o says: .mp4 video with sound, .mov ProRes 4444 with transparency, frame_%05d.png or a folder for
    pictures, .csv .json .npz curves, .glb .usda .usdc curves on a head.
    """
    tier = common.check_tier(tier, generator="portrait", weights=("dice-talk", "svd-xt", "whisper-tiny"))
    if faces:
        _list_faces(portrait, device=device, json=json)
        return
    outputs = output or []
    if audio is None:
        raise UsageError("name the speech: affetto talk PORTRAIT AUDIO -o OUT.mp4 (or --faces to list faces)")
    if not outputs:
        raise UsageError(f"nothing to make: name a file with -o ({' '.join(SUFFIXES)}) or a folder")
    if frame not in FRAMES:
        raise UsageError(f"unknown --frame {frame!r}: use {', '.join(FRAMES)}")
    if face is not None and landmarks is not None:
        raise UsageError("--face and --landmarks exclude each other: give one")
    if size is not None:
        common.check_range("--size", float(size), 256.0, 1080.0)
    common.check_range("--fps", fps, 10.0, 60.0)
    amounts = {"articulation": articulation, "head_motion": head_motion, "blinks": blinks, "gaze": gaze}
    for name, amount in amounts.items():
        common.check_range(f"--{name.replace('_', '-')}", amount, 0.0, 3.0)
    guidance = {"audio_guidance": audio_guidance, "emotion_guidance": emotion_guidance}
    for name, amount in guidance.items():
        common.check_range(f"--{name.replace('_', '-')}", amount, 0.0, 5.0)
    _check_outputs(outputs, overwrite=overwrite)
    if portrait.is_file():  # what is wrong with a file is told later, in its own words
        common.settle_consent(portrait, consent, what="face", quiet=quiet or json)
    work = Work(
        portrait=portrait,
        audio=audio,
        emotion=emotion,
        face=face,
        landmarks=landmarks,
        motion=motion,
        outputs=outputs,
        options={
            "fps": fps, "size": size, "frame": frame, "alpha": alpha, "seed": seed, **amounts, **guidance,
        },
        overwrite=overwrite,
        device=device,
        dtype=dtype,
    )  # fmt: skip
    if tier == "full":
        from affetto.apps.cli.talk_full import perform_full

        document = perform_full(work, preset=preset, quiet=quiet)
    else:
        document = _perform(work, quiet=quiet)
    if json:
        common.print_json(document)
    else:
        for path in outputs:
            common.print_data(str(path))


@dataclass(frozen=True, kw_only=True)
class Work:
    """What was asked for, checked as far as that goes without opening files."""

    portrait: Path
    audio: Path
    emotion: str | None
    face: int | None
    landmarks: Path | None
    motion: Path | None
    outputs: Sequence[Path]
    options: Mapping[str, Any]
    overwrite: bool
    device: str
    dtype: str


def _check_outputs(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raise unless every output can be written; folders for pictures are made when the first picture is."""
    files = [path for path in outputs if path.suffix and path.suffix.lower() != ".png"]
    common.check_outputs(files, SUFFIXES, overwrite=overwrite)
    if any(path.suffix.lower().startswith(".usd") for path in files):
        common.check_package("pxr", "USD files need usd-core: run pip install 'affetto[usd]'")
    for path in outputs:
        if path.suffix.lower() == ".png" and "%" not in path.name:
            raise UsageError(f"{path}: one picture for each frame needs a number: name it frame_%05d.png")
        if path.suffix.lower() == ".png":
            common.check_creatable(path, overwrite=True)
        elif not path.suffix:
            common.check_folder(path)


def _perform(work: Work, *, quiet: bool) -> dict[str, Any]:
    """Do the work and describe what was made."""
    from affetto.conditioning.track import as_track
    from affetto.media.animation.files import load_curves
    from affetto.media.image import load_image, look_at_picture

    # Everything that can be wrong with the input is found before the models load.
    track = as_track(work.emotion)
    speech = _load_speech(work.audio, work.options["fps"], needs_voice=work.motion is None)
    look_at_picture(work.portrait)
    image = load_image(work.portrait)
    marks = None if work.landmarks is None else _read_marks(work.landmarks, image.shape)
    curves = None if work.motion is None else load_curves(work.motion)

    from affetto.generators.portrait.pipeline import TalkingHead, TalkOptions

    def made(layout: "Layout") -> "tuple[Portrait, TalkingVideo]":
        device = layout.device or work.device
        speaker = TalkingHead.from_pretrained("embedded", device=device, dtype=work.dtype)
        with common.progress(quiet=quiet) as callback:
            portrait = speaker.portrait(image, face=work.face, landmarks=marks, name=str(work.portrait))
            video = speaker(
                portrait,
                speech,
                track,
                motion=curves,
                options=TalkOptions(**work.options),
                callback_on_step_end=callback,
            )
            files = {name: getattr(work, name) for name in ("portrait", "audio", "landmarks", "motion")}
            with common.recorded("talk", emotion=str(track), face=work.face, **files, **work.options):
                for path in work.outputs:
                    video.save(path, overwrite=work.overwrite or layout.lowered, progress=callback)
        return portrait, video

    (portrait, video), memory = common.spared("talk", made, device=work.device, quiet=quiet)
    return {
        "portrait": str(work.portrait),
        "audio": str(work.audio),
        "emotion": str(track),
        "outputs": [str(path) for path in work.outputs],
        "frames": len(video),
        "fps": video.curves.fps,
        "seconds": round(speech.seconds, 3),
        "face": {
            "box": [round(value, 1) for value in portrait.landmarks.box],
            "confidence": round(portrait.landmarks.confidence, 3),
            "fit_rms": round(portrait.fit.rms, 2),
        },
        "seed": work.options["seed"],
        **memory,
    }


def _load_speech(path: Path, fps: float, *, needs_voice: bool) -> "Audio":
    from affetto.media.audio import load_audio, look_at_sound

    look_at_sound(path)
    speech = load_audio(path)
    if round(speech.seconds * fps) < 1:
        raise InvalidInputError(
            f"{path}: lasts {speech.seconds:.3f} s, less than one frame: give some speech"
        )
    if needs_voice and speech.is_silent:
        raise InvalidInputError(f"{path}: is silent (below -80 dB throughout): check the recording")
    return speech


def _read_marks(path: Path, shape: tuple[int, ...]) -> "FaceLandmarks":
    from affetto.generators.portrait.landmark_files import read_landmarks

    return read_landmarks(path, (shape[1], shape[0]))


def _list_faces(path: Path, *, device: str, json: bool) -> None:
    """Print the faces of a picture, the largest first."""
    from affetto.generators.portrait.detect import FaceFinder
    from affetto.media.image import load_image, look_at_picture

    look_at_picture(path)
    image = load_image(path)
    found = FaceFinder.from_pretrained(device=device)(image)
    rows = [
        {
            "face": number,
            "box": [round(value, 1) for value in each.box],
            "confidence": round(each.confidence, 3),
            "turned_degrees": [round(float(angle) * 57.2958, 1) for angle in each.pose],
        }
        for number, each in enumerate(found, 1)
    ]
    if json:
        common.print_json({"portrait": str(path), "faces": rows})
        return
    for row in rows:
        left, top, right, bottom = row["box"]
        common.print_data(
            f"{row['face']}  {left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}  confidence {row['confidence']:.2f}"
        )
