"""`affetto emotion`: read, suggest, convert and draw emotions and emotion tracks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import UsageError

if TYPE_CHECKING:
    from affetto.conditioning.emotion import Emotion
    from affetto.conditioning.track import EmotionTrack

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
TRACK_SUFFIXES = (".json", ".csv", ".xml", ".emotionml", ".srt", ".vtt")
_TRACK_HELP = "An emotion (happy@0.7), a track (0:neutral; 1.5:happy) or a track file."
_PARSE_HELP = f"{_TRACK_HELP} Without one, --list names what there is."

_LONG = 60  # letters of an emotion's exact text that a table still shows


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    emotion = typer.Typer(
        name="emotion",
        help="Read, suggest, convert and draw emotions.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    emotion.command("parse")(parse)
    emotion.command("suggest")(suggest)
    emotion.command("convert")(convert)
    emotion.command("plot")(plot)
    app.add_typer(emotion)


def parse(
    text: Annotated[str | None, typer.Argument(metavar="EMOTION|TRACK|FILE", help=_PARSE_HELP)] = None,
    taxonomy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also tell it in the labels of a set: goemotions, mead8 ..."),
    ] = None,
    list_names: Annotated[
        bool, typer.Option("--list", help="List all emotion names and label sets.")
    ] = False,
    json: common.JsonOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Say what an emotion or a track means: its place, strength and nearest names."""
    if list_names:
        _list_names(as_json=json)
        return
    if text is None:
        raise UsageError("parse needs an emotion, a track or a file: try `affetto emotion parse happy@0.7`")
    from affetto.conditioning.track import as_track

    track = as_track(text)
    if len(track.keyframes) == 1 and not (track.pulses or track.lanes):
        facts = _emotion_facts(track.keyframes[0].emotion, taxonomy)
        if json:
            common.print_json(facts)
        else:
            _print_emotion(facts)
        return
    _print_track(track, as_json=json, taxonomy=taxonomy)


def suggest(
    text: Annotated[str | None, typer.Argument(help="Words to read an emotion from.")] = None,
    from_voice: Annotated[
        Path | None,
        typer.Option(
            metavar="AUDIO", help="Infer the emotion from a recorded voice; only with the speaker's consent."
        ),
    ] = None,
    taxonomy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also tell it in the labels of a set: goemotions, mead8 ..."),
    ] = None,
    output: common.OutputOption = None,
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Suggest an emotion for words, or (when asked to) for a recorded voice; offline."""
    if (text is None) == (from_voice is None):
        raise UsageError("suggest needs either words or --from-voice AUDIO, and not both")
    if output is not None:
        common.check_outputs([output], TRACK_SUFFIXES, overwrite=overwrite)
    found = _read_words(text) if text is not None else _read_voice(from_voice)
    if from_voice is not None:
        common.note("inferred from sound alone: a suggestion, not what the person feels", quiet=quiet)
    from affetto.conditioning.emotion import Emotion
    from affetto.conditioning.track import EmotionTrack

    track = EmotionTrack.constant(found) if isinstance(found, Emotion) else found
    if output is not None:
        from affetto.conditioning.formats import save_track

        save_track(output, track, overwrite=overwrite)
    if isinstance(found, EmotionTrack) and len(found.keyframes) > 1:
        _print_track(found, as_json=json, taxonomy=taxonomy)
        return
    facts = _emotion_facts(track.keyframes[0].emotion, taxonomy)
    if json:
        common.print_json(facts)
    else:
        _print_emotion(facts)


def convert(
    source: Annotated[
        str, typer.Argument(metavar="EMOTION|TRACK|FILE", help=_TRACK_HELP, show_default=False)
    ],
    output: common.OutputOption = None,
    fps: Annotated[float | None, typer.Option(help="Write a keyframe per frame at this rate.")] = None,
    smooth: Annotated[
        float, typer.Option(metavar="SECONDS", help="Smooth by a Gaussian of this width.")
    ] = 0.0,
    max_rate: Annotated[
        float | None, typer.Option(metavar="PER_SECOND", help="Limit how fast the emotion may move in VAD.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="The range of a CSV's axes, such as 1,9 for DEAM.")
    ] = None,
    json: common.JsonOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Write an emotion track in another format, by suffix: .emotion.json .csv .xml .emotionml .srt .vtt."""
    if output is None:
        raise UsageError("convert needs -o FILE, such as -o track.emotion.json")
    common.check_outputs([output], TRACK_SUFFIXES, overwrite=overwrite)
    from affetto.conditioning.formats import save_track

    track = _load(source, scale)
    if smooth < 0:
        raise UsageError(f"--smooth must be 0 or more seconds, got {smooth:g}")
    if smooth > 0:
        track = track.smoothed(smooth, fps=fps or 50.0)
    if max_rate is not None:
        track = track.rate_limited(max_rate, fps=fps or 50.0)
    if fps is not None:
        track = track.resampled(fps)
    save_track(output, track, overwrite=overwrite)
    facts = {"output": str(output), "keyframes": len(track.keyframes), "seconds": track.seconds}
    if json:
        common.print_json(facts)
    else:
        common.print_data(str(output))


def plot(
    source: Annotated[
        str, typer.Argument(metavar="EMOTION|TRACK|FILE", help=_TRACK_HELP, show_default=False)
    ],
    output: common.OutputOption = None,
    seconds: Annotated[float | None, typer.Option(help="How much of the track to show.")] = None,
    title: Annotated[str | None, typer.Option(help="The headline.")] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="The range of a CSV's axes, such as 1,9 for DEAM.")
    ] = None,
    json: common.JsonOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Draw a track over time and on the circumplex, as .png, .svg or .pdf."""
    if output is None:
        raise UsageError("plot needs -o FILE, such as -o track.png")
    common.check_outputs([output], PLOT_SUFFIXES, overwrite=overwrite)
    track = _load(source, scale)
    from affetto.conditioning.figure import draw_track

    is_file = Path(source).suffix.lower() in TRACK_SUFFIXES
    headline = title or (Path(source).name if is_file else "")
    draw_track(track, output, title=headline, seconds=seconds, overwrite=overwrite)
    if json:
        common.print_json(
            {"output": str(output), "keyframes": len(track.keyframes), "seconds": track.seconds}
        )
    else:
        common.print_data(str(output))


def _load(source: str, scale: str | None) -> "EmotionTrack":
    from affetto.conditioning.formats import table
    from affetto.conditioning.formats.reading import read_text
    from affetto.conditioning.track import as_track

    if scale is None:
        return as_track(source)
    if Path(source).suffix.lower() != ".csv":
        raise UsageError(f"--scale is for .csv tables, not for {source!r}")
    try:
        low, high = (float(end) for end in scale.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(f"cannot read --scale {scale!r}: write LOW,HIGH such as 1,9")
    return table.read(Path(source), read_text(Path(source)), scale=(low, high))


def _read_words(text: str) -> "Emotion":
    if not text.strip():
        raise UsageError("suggest needs words to read an emotion from")
    from affetto.conditioning.encoders.text import TextEncoder

    return TextEncoder()(text)


def _read_voice(path: Path | None) -> "Emotion | EmotionTrack":
    assert path is not None
    from affetto.conditioning.encoders.speech import SpeechEncoder
    from affetto.media.audio import load_audio, look_at_sound

    look_at_sound(path)
    return SpeechEncoder.from_pretrained("embedded")(load_audio(path))


def _emotion_facts(emotion: "Emotion", taxonomy: str | None) -> dict[str, Any]:
    from affetto.conditioning.anchors import ANCHORS_8

    facts: dict[str, Any] = {
        "text": str(emotion),
        "vad": list(emotion.vad),
        "effective_vad": [round(float(axis), 6) for axis in emotion.effective_vad()],
        "intensity": emotion.intensity,
        "overdriven": emotion.overdriven,
        "confidence": emotion.confidence,
        "mixture": dict(emotion.mixture),
        "anchors": {name: round(float(w), 6) for name, w in zip(ANCHORS_8, emotion.anchors(), strict=True)},
    }
    if taxonomy is not None:
        labels = emotion.to_labels(taxonomy, k=1000)
        facts["taxonomy"] = taxonomy
        facts["labels"] = {label: round(p, 6) for label, p in labels}
    return facts


def _print_emotion(facts: dict[str, Any]) -> None:
    common.print_data(facts["text"])
    for axis, felt, full in zip(
        ("valence", "arousal", "dominance"), facts["effective_vad"], facts["vad"], strict=True
    ):
        common.print_data(f"  {axis:<11}{felt:+.2f}   (at full strength {full:+.2f})")
    flag = "  (overdriven)" if facts["overdriven"] else ""
    common.print_data(f"  {'intensity':<11}{facts['intensity']:.2f}{flag}")
    if facts["confidence"] != 1:
        common.print_data(f"  {'confidence':<11}{facts['confidence']:.2f}")
    common.print_data(f"  {'anchors':<11}{_shares(facts['anchors'])}")
    if "labels" in facts:
        common.print_data(f"  {facts['taxonomy']:<11} {_shares(facts['labels'])}")


def _shares(shares: dict[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.2f}" for name, share in ranked[:6] if abs(share) >= 0.005)


def _print_track(track: "EmotionTrack", *, as_json: bool, taxonomy: str | None) -> None:
    keys = [{"time": k.time, "ease": k.ease, **_emotion_facts(k.emotion, taxonomy)} for k in track.keyframes]
    if as_json:
        common.print_json(
            {
                "text": str(track),
                "seconds": track.seconds,
                "space": track.space,
                "keyframes": keys,
                "pulses": len(track.pulses),
                "lanes": list(track.lanes),
                "lags": dict(track.lags),
            }
        )
        return
    for key in keys:
        v, a, d = key["effective_vad"]
        ease = "" if key["ease"] == "linear" else f"  ~{key['ease']}"
        told = key["text"] if len(key["text"]) <= _LONG else _shares(key["mixture"])
        common.print_data(f"{key['time']:9.3f} s  {v:+.2f} {a:+.2f} {d:+.2f}  {told}{ease}")


def _list_names(*, as_json: bool) -> None:
    from affetto.conditioning.lexicon import ALIASES, LEXICON
    from affetto.conditioning.taxonomies import TAXONOMIES

    also: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        also.setdefault(name, []).append(alias)
    if as_json:
        terms = [
            {
                "name": t.name,
                "vad": list(t.vad),
                "sd": list(t.sd),
                "source": t.source,
                "aliases": also.get(t.name, []),
            }
            for t in LEXICON.values()
        ]
        sets = {name: {"about": t.about, "labels": list(t.labels)} for name, t in TAXONOMIES.items()}
        common.print_json({"terms": terms, "taxonomies": sets})
        return
    for term in LEXICON.values():
        v, a, d = term.vad
        others = f"  ({', '.join(also[term.name])})" if term.name in also else ""
        common.print_data(f"{v:+.2f} {a:+.2f} {d:+.2f}  {term.name}{others}")
    for name, taxonomy in TAXONOMIES.items():
        common.print_data(f"{name:<16} {taxonomy.about}")
