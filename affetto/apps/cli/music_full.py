"""`affetto music --tier full`: the same command through MusER's networks."""

from typing import TYPE_CHECKING, Any

from affetto.apps.cli import common
from affetto.runtime.errors import UsageError

if TYPE_CHECKING:
    from affetto.apps.cli.music import Work
    from affetto.generators.music.full.muser_composer import MuserPiece
    from affetto.runtime.memory import Layout

SUFFIXES = (".mid", ".midi", ".wav")


def compose_full(work: "Work", *, quiet: bool) -> dict[str, Any]:
    """Compose with MusER and describe the piece; raises UsageError for what MusER cannot be told."""
    for path in work.outputs:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{path}: --tier full writes {', '.join(SUFFIXES)}: the picture needs the embedded tier"
            )
    if work.stems_of:
        raise UsageError("--stems belong to the embedded tier: MusER writes one part, leave them away")
    from affetto.conditioning.track import as_track
    from affetto.media.midi import look_at_midi

    track = as_track(work.emotion)  # before the models load
    if work.options["like"] is not None:
        look_at_midi(work.options["like"])
    from affetto.generators.music.full.muser_composer import MusERComposer

    options = {name: value for name, value in work.options.items() if name != "faders" or value}

    def made(layout: "Layout") -> "MuserPiece":
        device = layout.device or work.device
        composer = MusERComposer.from_pretrained(device=device, dtype=work.dtype)
        with common.progress(quiet=quiet) as callback:
            piece = composer(track, callback_on_step_end=callback, **options)
        with common.recorded("music", emotion=str(track), tier="full", **work.options):
            for path in work.outputs:
                piece.save(path, soundfont=work.soundfont)
        return piece

    piece, memory = common.spared("music", made, device=work.device, quiet=quiet)
    return {
        "emotion": str(track),
        "outputs": [str(path) for path in work.outputs],
        "seconds": round(piece.seconds, 3),
        "bars": len(piece.words.bar_steps),
        "notes": len(piece.score.notes),
        "sections": [{"start": round(start, 3), "quadrant": quadrant} for start, quadrant in piece.sections],
        "seed": work.options["seed"],
        **memory,
    }
