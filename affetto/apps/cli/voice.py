"""`affetto voice`: a recording and an emotion in, the same words in the same voice, sounding so, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    from affetto.generators.voice.pipeline import VoiceConversion
    from affetto.media.audio import Audio
    from affetto.runtime.memory import Layout

SUFFIXES = (".wav", ".flac")

_MIN_SECONDS = 0.2
_MAX_CHANNELS = 2
_CLIPPED = 0.02  # share of samples at full scale beyond which a recording is beyond repair

_HOW = "How it is said"
_WORDS = "Words instead of a recording"
_MORE = "Further files"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("voice")(voice)


def voice(
    audio: Annotated[
        Path | None,
        typer.Argument(help="Speech: WAV, FLAC, MP3 or OGG, mono or stereo.", show_default=False),
    ] = None,
    emotion: common.EmotionOption = None,
    output: common.OutputOption = None,
    strength: Annotated[
        float, typer.Option(help="How strongly, 0 (unchanged) to 2.", rich_help_panel=_HOW)
    ] = 1.0,
    level: Annotated[
        float,
        typer.Option(
            help="Loudness: 0 keeps the recording's, 1 is the emotion's own, up to 2.", rich_help_panel=_HOW
        ),
    ] = 0.0,
    keep_timing: Annotated[
        bool, typer.Option("--keep-timing", help="Every word stays where it is.", rich_help_panel=_HOW)
    ] = False,
    bank: Annotated[
        Path | None,
        typer.Option(help="Emotions of other actors: a file of `train voice-bank`.", rich_help_panel=_HOW),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the flow, 1 to 64.", rich_help_panel=_HOW)] = 6,
    text: Annotated[str | None, typer.Option(help="What is to be said.", rich_help_panel=_WORDS)] = None,
    text_file: Annotated[
        Path | None, typer.Option(help="A UTF-8 file with what is to be said.", rich_help_panel=_WORDS)
    ] = None,
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Its language: en-us, de, nl ...", rich_help_panel=_WORDS)
    ] = "en-us",
    speaker: Annotated[
        str, typer.Option(metavar="female|male", help="Who says it.", rich_help_panel=_WORDS)
    ] = "female",
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="A picture of before and after.", rich_help_panel=_MORE),
    ] = None,
    time_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Where each moment went.", rich_help_panel=_MORE),
    ] = None,
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
    """Give AUDIO another emotion: the same words in the same voice.

    Writes .wav or .flac at the recording's own rate and channels. Strength 0 returns the very samples.
    """
    if emotion is None:
        raise UsageError("name the emotion with -e, such as -e happy@0.7 or -e '0:neutral; 2:angry'")
    if output is None:
        raise UsageError(f"name the file to write with -o ({' '.join(SUFFIXES)})")
    if sum(source is not None for source in (audio, text, text_file)) != 1:
        raise UsageError("give one source: a recording, --text or --text-file")
    tier = common.check_tier(tier, generator="voice", weights=("emoreg", "hifigan-universal"))
    common.check_range("--strength", strength, 0.0, 2.0)
    common.check_range("--level", level, 0.0, 2.0)
    common.check_range("--steps", float(steps), 1.0, 64.0)
    common.check_outputs([output], SUFFIXES, overwrite=overwrite)
    for path, suffix in ((report, ".png"), (time_map, ".json")):
        common.check_outputs([] if path is None else [path], [suffix], overwrite=overwrite)
    if audio is not None and audio.is_file():  # what is wrong with a file is told later, in its own words
        common.settle_consent(audio, consent, what="voice", quiet=quiet or json)
    words = text if text_file is None else common.read_text(text_file)
    document = _convert(
        _Work(
            audio=audio,
            words=words,
            language=language,
            speaker=speaker,
            emotion=emotion,
            options={
                "strength": strength,
                "level": level,
                "keep_timing": keep_timing,
                "seed": seed,
                "steps": steps,
                "bank": bank,
            },
            output=output,
            report=report,
            time_map=time_map,
            model="emoreg" if tier == "full" else "embedded",
            device=device,
            dtype=dtype,
        ),
        quiet=quiet,
        overwrite=overwrite,
    )
    if json:
        common.print_json(document)
    else:
        for path in document["outputs"]:
            common.print_data(path)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What was asked for, checked as far as that goes without the recording."""

    audio: Path | None
    words: str | None
    language: str
    speaker: str
    emotion: str
    options: Mapping[str, Any]
    output: Path
    report: Path | None
    time_map: Path | None
    model: str
    device: str
    dtype: str


def _convert(work: _Work, *, quiet: bool, overwrite: bool) -> dict[str, Any]:
    """Do the work and describe what was made."""
    from affetto.conditioning.track import as_track

    # Everything that can be wrong with the input is found before the models load.
    track = as_track(work.emotion)
    speech = _spoken(work) if work.audio is None else load_speech(work.audio)

    from affetto.generators.voice.pipeline import VoiceConverter

    def made(layout: "Layout") -> "tuple[VoiceConversion, list[Path]]":
        device, again = layout.device or work.device, overwrite or layout.lowered
        converter = VoiceConverter.from_pretrained(work.model, device=device, dtype=work.dtype)
        with common.progress(quiet=quiet) as callback:
            conversion = converter(speech, track, callback_on_step_end=callback, **work.options)
        told = {"text": work.words, "language": work.language if work.words else None, **work.options}
        told["tier"] = None if work.model == "embedded" else "full"
        with common.recorded("voice", audio=work.audio, emotion=str(track), **told):
            written = [conversion.save(work.output, overwrite=again)]
            if work.time_map is not None:
                written.append(conversion.save(work.time_map, overwrite=again))
            if work.report is not None:
                written.append(conversion.report(work.report))
        return conversion, written

    (conversion, written), memory = common.spared("voice", made, device=work.device, quiet=quiet)
    for warning in conversion.warnings:
        common.note(warning, quiet=quiet)
    return {
        "audio": None if work.audio is None else str(work.audio),
        "emotion": str(track),
        "outputs": [str(path) for path in written],
        "seconds": round(speech.seconds, 3),
        "seconds_converted": round(conversion.audio.seconds, 3),
        "rate": conversion.audio.rate,
        "channels": len(conversion.audio.samples),
        "strength": work.options["strength"],
        "seed": work.options["seed"],
        "warnings": list(conversion.warnings),
        **memory,
    }


def _spoken(work: _Work) -> "Audio":
    from affetto.generators.voice.text_source import speak_text

    assert work.words is not None
    return speak_text(work.words, language=work.language, voice=work.speaker)


def load_speech(path: Path) -> "Audio":
    """The recording, refused in one line when it is too short, silent, badly clipped or no mono or stereo sound."""
    import numpy as np

    from affetto.media.audio import load_audio, look_at_sound

    channels = look_at_sound(path).channels
    if channels > _MAX_CHANNELS:
        raise InvalidInputError(f"{path}: {channels} channels: mix the voice down to mono or stereo")
    speech = load_audio(path)
    if speech.seconds < _MIN_SECONDS:
        raise InvalidInputError(
            f"{path}: lasts {speech.seconds:.3f} s: give at least {_MIN_SECONDS} s of speech"
        )
    if speech.is_silent:
        raise InvalidInputError(f"{path}: is silent (below -80 dB throughout): check the recording")
    clipped = float(np.mean(np.abs(speech.samples) >= 0.999))
    if clipped > _CLIPPED:
        raise InvalidInputError(
            f"{path}: is clipped in {100 * clipped:.0f} % of its samples: record it softer"
        )
    return speech
