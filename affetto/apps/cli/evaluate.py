"""`affetto evaluate`: whether what was made is what was asked for."""

from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import UsageError

_AGAINST = "Held against"
_SWEEP = "Ask-vs-get curves"
SWEEP_SUFFIXES = (".png", ".md", ".json")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Sound, face curves, glTF, MIDI or video.", show_default=False)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="EMOTION|TRACK|FILE", help="What was asked for.", rich_help_panel=_AGAINST),
    ] = None,
    neutral: Annotated[
        Path | None, typer.Option(help="A neutral recording of the same speaker.", rich_help_panel=_AGAINST)
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="What a voice or a piece was made from.", rich_help_panel=_AGAINST)
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="The sound that belongs to face curves.", rich_help_panel=_AGAINST)
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="A perfect version, for quality.", rich_help_panel=_AGAINST)
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Which critic, where the medium has it: embedded, speech-emotion, formula, or once pulled audeering,"
            " emotion2vec-base, emotion2vec-large, empathic-insight-voice, hsemotion-b0, cage-maxvit, empathic-insight-face.",
        ),
    ] = "embedded",
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="Ask every generator for 8 emotions at 5 strengths.", rich_help_panel=_SWEEP
        ),
    ] = False,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="voice|face|music|portrait", help="Only these generators.", rich_help_panel=_SWEEP
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder with held-out speech (speech/emodb).", rich_help_panel=_SWEEP),
    ] = None,
    portrait: Annotated[
        Path | None,
        typer.Option(
            help="Draw this picture and judge the frames, not the motion alone.", rich_help_panel=_SWEEP
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|embedded",
            help="Translate strengths by this calibration first.",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            metavar="reporting|choosing",
            help="Who judges: the critics that report, or, for a calibration, those of --best-of on other speakers and seeds.",
            rich_help_panel=_SWEEP,
        ),
    ] = "reporting",
    ask: Annotated[
        list[str] | None,
        typer.Option(metavar="EMOTION", help="Only these emotions.", rich_help_panel=_SWEEP),
    ] = None,
    takes: Annotated[
        int,
        typer.Option(
            help="Takes of each of two speakers; eight times as many pieces of music.", rich_help_panel=_SWEEP
        ),
    ] = 1,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Of a sweep: .png picture, .md table, .json calibration. Else .json.",
        ),
    ] = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Measure which emotion files express, by critics of their own, and score it against what was asked for.

    Every score stands beside the critic's own accuracy. With --sweep: the curves from asked to got of each generator.
    """
    outputs = output or []
    common.check_range("--takes", float(takes), 1.0, 64.0)
    if sweep == bool(files):
        raise UsageError("name files to evaluate, or ask for --sweep, not both")
    common.check_outputs(outputs, SWEEP_SUFFIXES if sweep else (".json",), overwrite=overwrite)
    if sweep:
        _sweep(
            generator or ["voice", "face", "music", "portrait"],
            {
                "data": data,
                "portrait": portrait,
                "seed": seed,
                "device": device,
                "judge": judge,
                "takes": takes,
                "emotions": checked_emotions(ask),
            },
            calibration,
            outputs,
            json=json,
            quiet=quiet,
        )
        return
    from affetto.conditioning.track import as_track
    from affetto.evaluation.evaluate import EvaluateOptions, check_files
    from affetto.evaluation.evaluate import evaluate as measure
    from affetto.media.looking import look_at_media

    assert files is not None
    check_files(files)
    for path in (*files, neutral, source, audio, reference):
        if path is not None:
            look_at_media(path)
    options = EvaluateOptions(
        target=None if target is None else as_track(target),
        neutral=neutral,
        source=source,
        audio=audio,
        reference=reference,
        encoder=encoder,
    )
    with common.progress(quiet=quiet) as callback:
        document = measure(files, options, callback=callback)
    for path in outputs:
        _write_json(path, document)
    if json:
        common.print_json(document)
    else:
        _print(document)


def checked_emotions(asked: list[str] | None) -> list[str]:
    """What a sweep asks for; raises UsageError for what it does not know."""
    from affetto.evaluation.sweep import EMOTIONS

    for name in asked or ():
        if name not in EMOTIONS:
            raise UsageError(f"--ask: no sweep asks for {name!r}: use {', '.join(EMOTIONS)}")
    return asked or list(EMOTIONS)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    import json

    from affetto.runtime.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _print(document: dict[str, Any]) -> None:
    for entry in document["files"]:
        common.print_data(f"{entry['file']}  {entry['seconds']:.1f} s")
        for part in entry["media"]:
            critic = part["critic"]
            held = "held out" if critic["held_out"] else "NOT held out"
            vad = " ".join(f"{axis:+.2f}" for axis in part["measured"]["vad"])
            common.print_data(f"  {part['medium']}: {part['measured']['emotion']}   vad {vad}")
            common.print_data(f"    critic {critic['name']} ({held}): {critic['accuracy']}")
            if critic["note"]:
                common.print_data(f"      {critic['note']}")
            if "scores" in part:
                _print_scores(part["scores"])
        for name, value in entry["kept"].items():
            common.print_data(f"  {name}: {value}")
    for name, found in document.get("calibration", {}).items():
        common.print_data(
            f"{name}: confidence {found['confidence']:.2f}, right {found['accuracy']:.2f}, ECE {found['ece']:.2f}"
            f" over {found['items']} windows"
        )
    for pair in document.get("agreement", []):
        kept = (
            ""
            if pair["conflict_kept"] is None
            else f", conflict kept: {'yes' if pair['conflict_kept'] else 'no'}"
        )
        common.print_data(
            f"{' and '.join(pair['media'])}: divergence {pair['js']:.2f} bit, overlap {pair['overlap']:.2f}{kept}"
        )


def _print_scores(scores: dict[str, Any]) -> None:
    whole = scores["whole"]
    common.print_data(
        f"    asked {'/'.join(whole['plausible'])}, found {whole['measured']}"
        f" ({'as asked' if whole['hit'] else 'not as asked'}), probability of what was asked {whole['probability_of_wanted']:.2f}"
    )
    axes = ", ".join(f"{axis} {value if value is not None else '-'}" for axis, value in scores["ccc"].items())
    common.print_data(
        f"    VAD off by {scores['vad_rms']:.2f} ({scores['vad_sd']:.2f} sd); CCC over time: {axes}"
    )
    common.print_data(
        f"    mixture: divergence {scores['mixture_js']:.2f} bit, overlap {scores['mixture_overlap']:.2f};"
        f" top 1 {scores['top1']:.2f}, top 2 {scores['top2']:.2f} of {scores['windows']} windows"
    )
    if "transition" in scores:
        moved = scores["transition"]
        common.print_data(f"    transition: {moved['lag_s']:+.2f} s, overshoot {moved['overshoot']:.2f}")


def _sweep(
    generators: list[str],
    options: dict[str, Any],
    calibration: str | None,
    outputs: list[Path],
    *,
    json: bool,
    quiet: bool,
) -> None:
    from affetto.conditioning.calibration import Calibration
    from affetto.evaluation import sweep as curves_of

    known = None if calibration is None else Calibration.named(calibration)
    with common.progress(quiet=quiet) as callback:
        curves = curves_of.sweep(generators, calibration=known, callback=callback, **options)
    rows = curves_of.rows_of(curves)
    for path in outputs:
        if path.suffix == ".png":
            curves_of.draw(path, curves)
        elif path.suffix == ".md":
            _write_text(path, curves_of.markdown(rows))
        else:
            curves_of.calibration_of(curves).save(path)
    if json:
        common.print_json(rows)
    else:
        from affetto.apps.cli.bench import print_rows

        print_rows("ask-vs-get", rows)


def _write_text(path: Path, text: str) -> None:
    from affetto.runtime.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
