"""`affetto talk --tier full`: the same command through DICE-Talk's published networks."""

from typing import TYPE_CHECKING, Any

from affetto.apps.cli import common
from affetto.runtime.errors import UsageError

if TYPE_CHECKING:
    from affetto.apps.cli.talk import Work

SUFFIXES = (".mp4", ".png", "")
_AUDIO = 3.0  # guidance of DICE-Talk for one of the command: 2 is its published 6
_EMOTION = 4.0  # and so is 1.5


def perform_full(work: "Work", *, preset: str, quiet: bool) -> dict[str, Any]:
    """Make the video and describe it; raises UsageError for what DICE-Talk cannot be told."""
    _check(work)
    from affetto.conditioning.track import as_track
    from affetto.generators.portrait.full.guidance import Guidance
    from affetto.generators.portrait.full.options import DiceTalkOptions
    from affetto.generators.portrait.full.presets import get_preset
    from affetto.media.audio import load_audio, look_at_sound
    from affetto.media.image import load_image, look_at_picture

    chosen = get_preset(preset)
    look_at_sound(work.audio)
    look_at_picture(work.portrait)
    track, speech, image = as_track(work.emotion), load_audio(work.audio), load_image(work.portrait)
    marks = None
    if work.landmarks is not None:
        from affetto.generators.portrait.landmark_files import read_landmarks

        marks = read_landmarks(work.landmarks, (image.shape[1], image.shape[0]))
    asked = work.options
    options = DiceTalkOptions(
        preset=chosen,
        seed=asked["seed"],
        size=asked["size"],
        crop=asked["frame"] == "1:1",
        guidance=Guidance(
            audio=_AUDIO * asked["audio_guidance"], emotion=_EMOTION * asked["emotion_guidance"]
        ),
    )
    from affetto.generators.portrait.full.pipeline import DiceTalkPipeline

    speaker = DiceTalkPipeline.from_pretrained(device=work.device, dtype=work.dtype)
    with common.progress(quiet=quiet) as callback:
        video = speaker(
            image,
            speech,
            track,
            face=work.face,
            landmarks=marks,
            options=options,
            callback_on_step_end=callback,
        )
        files = {name: getattr(work, name) for name in ("portrait", "audio", "landmarks")}
        with common.recorded(
            "talk", emotion=str(track), face=work.face, tier="full", preset=preset, **files, **work.options
        ):
            for path in work.outputs:
                video.save(path, overwrite=work.overwrite, progress=callback)
    report = video.report()
    return {
        "portrait": str(work.portrait),
        "audio": str(work.audio),
        "emotion": str(track),
        "outputs": [str(path) for path in work.outputs],
        "frames": len(video),
        "fps": video.fps,
        "seconds": round(speech.seconds, 3),
        "size": list(video.size),
        "seed": asked["seed"],
        "tier": "full",
        "preset": report.preset,
        "dtype": report.dtype,
        "attention": report.kernel,
        "passes": report.passes,
        "given_up": list(report.given_up),
    }


def _check(work: "Work") -> None:
    """Raise for options and outputs that only the embedded tier has."""
    asked = work.options
    if work.motion is not None:
        raise UsageError("--motion moves the embedded tier's face: leave out --tier full")
    if asked["frame"] not in ("whole", "1:1"):
        raise UsageError(
            f"--frame {asked['frame']}: the full tier shows whole pictures or 1:1 about the face"
        )
    if asked["alpha"] or asked["fps"] != 25.0:
        raise UsageError(
            "--alpha and --fps belong to the embedded tier: DICE-Talk makes 25 whole frames a second"
        )
    for path in work.outputs:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: DICE-Talk gives pixels: write .mp4, frame_%05d.png or a folder")
