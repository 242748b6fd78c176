"""`affetto music`: an emotion in, a piece of music out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import UsageError

if TYPE_CHECKING:
    from affetto.generators.music.pipeline import MusicPiece
    from affetto.runtime.memory import Layout

SUFFIXES = (".mid", ".midi", ".wav", ".png")

_PIECE = "The piece"
_GIVEN = "Starting from a MIDI file"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("music")(music)


def music(
    emotion: common.EmotionOption = None,
    output: common.OutputsOption = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long, exactly; 30 when nothing is said.", rich_help_panel=_PIECE)
    ] = None,
    bars: Annotated[int | None, typer.Option(help="How many bars, 1 to 512.", rich_help_panel=_PIECE)] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="C, F# major, Bb minor, Am ...", rich_help_panel=_PIECE)
    ] = None,
    tempo: Annotated[
        float | None, typer.Option(help="Quarter notes a minute, 30 to 240.", rich_help_panel=_PIECE)
    ] = None,
    metre: Annotated[
        str | None, typer.Option(metavar="4/4|3/4|2/4", help="The metre.", rich_help_panel=_PIECE)
    ] = None,
    chords: Annotated[
        str | None,
        typer.Option(
            metavar="C_M A_m F_M|G_7 ...", help="The harmony, a chord or A|B a bar.", rich_help_panel=_PIECE
        ),
    ] = None,
    fader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=X",
            help="rhythm, density, polyphony, register, velocity or mode, 0 to 8.",
            rich_help_panel=_PIECE,
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Melody, chords, bass, light drums.", rich_help_panel=_PIECE)
    ] = False,
    soundfont: Annotated[
        Path | None,
        typer.Option(metavar="FILE.sf2", help="Play the .wav with fluidsynth.", rich_help_panel=_PIECE),
    ] = None,
    stems: Annotated[
        bool,
        typer.Option("--stems", help="Beside each .wav one for every part.", rich_help_panel=_PIECE),
    ] = False,
    loop: Annotated[
        bool, typer.Option("--loop", help="End so that it can be repeated.", rich_help_panel=_PIECE)
    ] = False,
    ending: Annotated[
        str, typer.Option(metavar="cadence|open", help="How it ends.", rich_help_panel=_PIECE)
    ] = "cadence",
    like: Annotated[
        Path | None, typer.Option(metavar="FILE.mid", help="A piece to start from.", rich_help_panel=_GIVEN)
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="vary|continue|rhythm|harmony", help="What to do with it.", rich_help_panel=_GIVEN
        ),
    ] = "vary",
    infill: Annotated[
        str | None,
        typer.Option(metavar="A-B", help="Write only bars A to B of it anew.", rich_help_panel=_GIVEN),
    ] = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    tier: common.TierOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Compose a piece that feels like an emotion, or that follows a course of emotions.

    Writes what the suffix of each -o says: .mid notes with tempo, chords and the emotion as controllers 20 to 22; .wav
    the same played by built-in instruments; .png a picture of the notes.
    """
    outputs = output or []
    if not outputs:
        raise UsageError(f"nothing to make: name a file with -o ({' '.join(SUFFIXES)})")
    tier = common.check_tier(tier, generator="music", weights=("muser", "muser-prior"))
    common.check_outputs(outputs, SUFFIXES, overwrite=overwrite)
    if infill is not None and like is None:
        raise UsageError("--infill needs the piece to fill in: give --like FILE.mid")
    sounds = [path for path in outputs if path.suffix.lower() == ".wav"]
    if stems and not sounds:
        raise UsageError("--stems are written beside a .wav: name one with -o")
    work = Work(
        emotion=emotion,
        options={
            "seconds": seconds,
            "bars": bars,
            "key": key,
            "tempo": tempo,
            "metre": metre,
            "chords": chords.split() if chords is not None else None,
            "faders": parse_faders(fader or []),
            "seed": seed,
            "like": like,
            "mode": mode,
            "infill": parse_infill(infill) if infill is not None else None,
            "loop": loop,
            "ending": ending,
            "ensemble": "ensemble" if ensemble else "piano",
        },
        outputs=outputs,
        stems_of=sounds if stems else [],
        overwrite=overwrite,
        soundfont=soundfont,
        device=device,
        dtype=dtype,
    )
    if tier == "full":
        from affetto.apps.cli.music_full import compose_full

        document = compose_full(work, quiet=quiet)
    else:
        document = _compose(work, quiet=quiet)
    if json:
        common.print_json(document)
    else:
        for path in document["outputs"]:
            common.print_data(path)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What was asked for, checked as far as that goes without the models."""

    emotion: str | None
    options: Mapping[str, Any]
    outputs: Sequence[Path]
    stems_of: Sequence[Path]
    overwrite: bool
    soundfont: Path | None
    device: str
    dtype: str


def _compose(work: Work, *, quiet: bool) -> dict[str, Any]:
    """Do the work and describe what was made."""
    from affetto.conditioning.track import as_track
    from affetto.media.midi import look_at_midi

    track = as_track(work.emotion)  # before the models load
    like = work.options["like"]
    if like is not None and like.is_file():  # that it is missing is told after what else is wrong
        look_at_midi(like)
    from affetto.generators.music.pipeline import MusicComposer

    def made(layout: "Layout") -> "tuple[MusicPiece, list[Path]]":
        device = layout.device or work.device
        composer = MusicComposer.from_pretrained("embedded", device=device, dtype=work.dtype)
        with common.progress(quiet=quiet) as callback:
            piece = composer(track, callback_on_step_end=callback, **work.options)
        with common.recorded("music", emotion=str(track), **work.options):
            for path in work.outputs:
                piece.save(path, soundfont=work.soundfont)
            overwrite = work.overwrite or layout.lowered
            stems = [
                stem
                for path in work.stems_of
                for stem in piece.save_stems(path, soundfont=work.soundfont, overwrite=overwrite)
            ]
        return piece, stems

    (piece, stems), memory = common.spared("music", made, device=work.device, quiet=quiet)
    curve = piece.emotion_curve()
    return {
        "emotion": str(track),
        "outputs": [str(path) for path in [*work.outputs, *stems]],
        "seconds": round(piece.seconds, 3),
        "bars": len(piece.plan.bars),
        "key": piece.plan.key,
        "metre": piece.plan.metre,
        "notes": len(piece.score.notes),
        "seed": work.options["seed"],
        "asked": [round(float(axis), 3) for axis in curve[:, 1:4].mean(axis=0)],
        "measured": [round(float(axis), 3) for axis in curve[:, 4:7].mean(axis=0)],
        "copy": {"longest": piece.copy.longest, "share": round(piece.copy.share, 4)},
        **memory,
    }


def parse_faders(pairs: Sequence[str]) -> dict[str, float]:
    """The levels of repeated `NAME=X` options."""
    levels: dict[str, float] = {}
    for pair in pairs:
        name, equals, number = pair.partition("=")
        try:
            level = float(number) if equals else float("nan")
        except ValueError:
            level = float("nan")
        if not 0.0 <= level <= 8.0:
            raise UsageError(
                f"--fader {pair!r}: write NAME=X with X from 0 to 8, for example --fader density=6"
            )
        levels[name.strip()] = level
    return levels


def parse_infill(text: str) -> tuple[int, int]:
    """The first and last bar of `A-B`, or of one bar."""
    match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", text)
    if match is None:
        raise UsageError(f"--infill {text!r}: write the bars as A-B, for example 5-8")
    first = int(match[1])
    return first, int(match[2]) if match[2] else first
