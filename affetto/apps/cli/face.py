"""`affetto face`: speech and an emotion in, an animated face out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from affetto.media.animation.curves import FaceCurves
    from affetto.media.animation.stream import Target
    from affetto.media.audio import Audio
    from affetto.runtime.memory import Layout

SUFFIXES = (".csv", ".glb", ".usda", ".usdc", ".json", ".npz", ".mp4")
BACKENDS = ("auto", "numba", "moderngl")

_MIN_SECONDS = 0.2

_SPEECH = "Speech"
_MOTION = "Motion"
_PICTURE = "Picture and mesh"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("face")(face)


def face(
    audio: Annotated[Path, typer.Argument(help="Speech: WAV, FLAC, MP3 or OGG.", show_default=False)],
    emotion: common.EmotionOption = None,
    output: common.OutputsOption = None,
    fps: Annotated[
        float,
        typer.Option(help="Frames per second, 10 to 120: 24, 25, 30, 60 ...", rich_help_panel=_MOTION),
    ] = 30.0,
    articulation: Annotated[
        float, typer.Option(help="How far the lips travel, 0 to 3.", rich_help_panel=_MOTION)
    ] = 1.1,
    gain: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=X", help="Scale one blend shape.", rich_help_panel=_MOTION),
    ] = None,
    offset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=X", help="Add to one blend shape.", rich_help_panel=_MOTION),
    ] = None,
    head_motion: Annotated[
        float, typer.Option(help="Head movement, 0 (still) to 3.", rich_help_panel=_MOTION)
    ] = 1.0,
    blinks: Annotated[float, typer.Option(help="Blink rate, 0 (never) to 3.", rich_help_panel=_MOTION)] = 1.0,
    gaze: Annotated[
        float, typer.Option(help="Eye movement, 0 (straight ahead) to 3.", rich_help_panel=_MOTION)
    ] = 1.0,
    text: Annotated[
        str | None, typer.Option(help="The words spoken, for exact lips.", rich_help_panel=_SPEECH)
    ] = None,
    text_file: Annotated[
        Path | None, typer.Option(help="A UTF-8 file with the words.", rich_help_panel=_SPEECH)
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Language of the words: en, de, nl ...", rich_help_panel=_SPEECH),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose way of speaking (full tier): M003 ...", rich_help_panel=_SPEECH
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(metavar="SEED|MODE=X,...|FILE", help="Whose face it is.", rich_help_panel=_PICTURE),
    ] = None,
    size: Annotated[
        int, typer.Option(help="Side of the video in pixels, 64 to 2160.", rich_help_panel=_PICTURE)
    ] = 512,
    backend: Annotated[
        str,
        typer.Option(
            metavar="|".join(BACKENDS), help="Which renderer draws the video.", rich_help_panel=_PICTURE
        ),
    ] = "auto",
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="udp://HOST:PORT", help="Play to a receiver: Live Link (udp) or OSC (osc)."),
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
    """Animate a face that speaks AUDIO with an emotion.

    Writes what the suffix of each -o says: .csv Live Link Face, .glb glTF with 52 morph targets, .usda and .usdc USD, .json and
    .npz curves, .mp4 video with the sound.
    """
    outputs, streams = output or [], stream or []
    if not outputs and not streams:
        raise UsageError(f"nothing to make: name a file with -o ({' '.join(SUFFIXES)}) or a --stream")
    if text is not None and text_file is not None:
        raise UsageError("--text and --text-file exclude each other: give one")
    if backend not in BACKENDS:
        raise UsageError(f"unknown --backend {backend!r}: use {', '.join(BACKENDS)}")
    tier = common.check_tier(tier, generator="face", weights=("emote",))
    style_options = _full_tier_options(tier, style, text=text, text_file=text_file, language=language)
    common.check_range("--fps", fps, 10.0, 120.0)
    common.check_range("--size", float(size), 64.0, 2160.0)
    amounts = {"articulation": articulation, "head_motion": head_motion, "blinks": blinks, "gaze": gaze}
    for name, amount in amounts.items():
        common.check_range(f"--{name.replace('_', '-')}", amount, 0.0, 3.0)
    common.check_outputs(outputs, SUFFIXES, overwrite=overwrite)
    if any(path.suffix.lower().startswith(".usd") for path in outputs):
        common.check_package("pxr", "USD files need usd-core: run pip install 'affetto[usd]'")
    work = _Work(
        audio=audio,
        emotion=emotion,
        options={
            "fps": fps,
            "text": text if text_file is None else common.read_text(text_file),
            "language": language,
            "seed": seed,
            "gains": parse_shapes(gain or [], option="--gain"),
            "offsets": parse_shapes(offset or [], option="--offset"),
            "identity": None if identity is None else parse_identity(identity),
            **amounts,
            **style_options,
        },
        outputs=outputs,
        saving={"size": size, "backend": backend, "overwrite": overwrite},
        targets=_targets(streams),
        model="emote" if tier == "full" else "embedded",
        device=device,
        dtype=dtype,
    )
    document = _animate(work, quiet=quiet)
    if json:
        common.print_json(document)
    else:
        for path in outputs:
            common.print_data(str(path))


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What was asked for, checked as far as that goes without the recording."""

    audio: Path
    emotion: str | None
    options: Mapping[str, Any]
    outputs: Sequence[Path]
    saving: Mapping[str, Any]
    targets: "Sequence[Target]"
    model: str
    device: str
    dtype: str


def _animate(work: _Work, *, quiet: bool) -> dict[str, Any]:
    """Do the work and describe what was made."""
    from affetto.conditioning.track import as_track
    from affetto.media.animation.stream import stream_curves

    # Everything that can be wrong with the input is found before the models load.
    track = as_track(work.emotion)
    speech = _load_speech(work.audio)

    from affetto.generators.face.pipeline import FaceAnimator

    def made(layout: "Layout") -> "FaceCurves":
        animator = FaceAnimator.from_pretrained(
            work.model, device=layout.device or work.device, dtype=work.dtype
        )
        saving = {**work.saving, "overwrite": work.saving["overwrite"] or layout.lowered}
        with common.progress(quiet=quiet) as callback:
            animation = animator(speech, track, callback_on_step_end=callback, **work.options)
            told = {**work.options, "identity": _listed(work.options["identity"]), "size": saving["size"]}
            told["tier"] = None if work.model == "embedded" else "full"
            with common.recorded("face", audio=work.audio, emotion=str(track), **told):
                for path in work.outputs:
                    animation.save(path, progress=callback, **saving)
        return animation.curves

    curves, memory = common.spared("face", made, device=work.device, quiet=quiet)
    for target in work.targets:
        common.note(f"playing {curves.seconds:.1f} s to {target.host} port {target.port}", quiet=quiet)
        stream_curves(curves, target)
    return {
        "audio": str(work.audio),
        "emotion": str(track),
        "outputs": [str(path) for path in work.outputs],
        "streams": [f"{target.kind}://{target.host}:{target.port}" for target in work.targets],
        "frames": len(curves),
        "fps": curves.fps,
        "seconds": round(curves.seconds, 3),
        "seed": work.options["seed"],
        **memory,
    }


def _listed(identity: "np.ndarray | None") -> list[float] | None:
    return None if identity is None else [round(float(each), 6) for each in identity]


def _full_tier_options(
    tier: str, style: str | None, *, text: str | None, text_file: Path | None, language: str | None
) -> dict[str, Any]:
    """What only the full tier takes; raises for what the chosen tier cannot do."""
    if tier == "embedded":
        if style is not None:
            raise UsageError("--style belongs to the full tier: add --tier full, or leave it away")
        return {}
    if text is not None or text_file is not None or language is not None:
        raise UsageError("--tier full hears and does not read: leave --text, --text-file and --language away")
    return {} if style is None else {"style": style}


def _load_speech(path: Path) -> "Audio":
    from affetto.media.audio import load_audio, look_at_sound

    look_at_sound(path)
    speech = load_audio(path)
    if speech.seconds < _MIN_SECONDS:
        raise InvalidInputError(
            f"{path}: lasts {speech.seconds:.3f} s: give at least {_MIN_SECONDS} s of speech"
        )
    if speech.is_silent:
        raise InvalidInputError(f"{path}: is silent (below -80 dB throughout): check the recording")
    return speech


def _targets(addresses: Sequence[str]) -> "list[Target]":
    if not addresses:
        return []
    from affetto.media.animation.stream import Target

    return [Target.parse(address) for address in addresses]


def parse_shapes(pairs: Sequence[str], *, option: str) -> dict[str, float]:
    """The values of repeated `NAME=X` options, by ARKit blend shape."""
    from affetto.media.animation.curves import ARKIT_INDEX

    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, number = pair.partition("=")
        if not equals:
            raise UsageError(f"{option} {pair!r}: write NAME=X, for example {option} jawOpen=0.8")
        if name not in ARKIT_INDEX:
            raise UsageError(
                f"{option} {pair!r}: no blend shape {name!r}: {_nearest(name, tuple(ARKIT_INDEX))}"
            )
        values[name] = _number(number, where=f"{option} {pair!r}")
    return values


def _nearest(name: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(near)}?"
        if near
        else "use an ARKit name such as jawOpen or mouthSmileLeft"
    )


def _number(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"{where}: {text!r} is not a number") from error
    if not abs(value) <= 100:  # also refuses NaN
        raise UsageError(f"{where}: {text!r} is out of range: use a number between -100 and 100")
    return value


def parse_identity(text: str) -> "np.ndarray":
    """Identity coefficients (mode,) from a seed, from `MODE=X,...`, or from a JSON file with a list of numbers."""
    import numpy as np

    from affetto.head.model import HeadModel

    modes = len(HeadModel.load().identity)
    if text.isdecimal():
        # Half of the population's spread: clearly someone else, never a caricature.
        return (0.5 * np.random.default_rng(int(text)).standard_normal(modes)).astype(np.float32)
    coefficients = np.zeros(modes, np.float32)
    if Path(text).suffix.lower() == ".json" or "=" not in text:
        values = _identity_file(Path(text), modes)
        coefficients[: len(values)] = values
        return coefficients
    for pair in text.split(","):
        mode, _, number = pair.partition("=")
        if not mode.strip().isdecimal() or int(mode) >= modes:
            raise UsageError(f"--identity {pair!r}: write MODE=X with a mode from 0 to {modes - 1}")
        coefficients[int(mode)] = _number(number, where=f"--identity {pair!r}")
    return coefficients


def _identity_file(path: Path, modes: int) -> list[float]:
    import json

    try:
        values = json.loads(common.read_text(path))
    except ValueError as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path}: is not JSON ({error}): write a list of numbers") from error
    if not isinstance(values, list) or len(values) > modes:
        raise InvalidInputError(
            f"{path}: needs a list of at most {modes} numbers, one for each identity mode"
        )
    return [_number(str(value), where=str(path)) for value in values]
