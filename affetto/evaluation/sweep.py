"""Ask-vs-get: what each generator gives for eight emotions at five strengths, by critics it was not made with.

The curves go into the documents as a picture and a table. Curves by the critics that choose (`choosing`) become a
calibration with which strength is linear (`calibration:` in a scene); the critics that report have no part in it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.calibration import AskGet, Calibration
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.figure import emotion_colour
from affetto.conditioning.track import EmotionTrack
from affetto.evaluation import critics
from affetto.evaluation.measuring import Measured
from affetto.evaluation.poses import POSES, measure_poses
from affetto.evaluation.scores import Linearity, linearity
from affetto.evaluation.voice_sets import read_takes
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio, load_audio
from affetto.media.midi import Score
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent

EMOTIONS = (*(name for name in ANCHORS_8 if name != "neutral"), "calm")
"""Seven anchors and calm: eight things to ask for beside neutral."""

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
CALIBRATION_STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Closer where curves bend most: a piece turns from major to minor between two of the first."""

GENERATORS = ("voice", "face", "music", "portrait")

JUDGES = ("reporting", "choosing")
"""Who says what was got: the critics of `evaluate`, or those of `--best-of` (speech encoder, poses of the rules, formula)."""

_FILM_S = 3.0
_TAKES, _PIECES, _PIECE_S = 1, 8, 10.0  # for each of two speakers; of music; seconds of one
_OTHER_SEEDS = 10_000
_SURE = 1.96  # standard errors of a 95 % interval
_FLAT = 0.05  # a curve that moves less than this says nothing
_INK, _SOFT, _GRID = "#23262d", "#6b7280", "#e5e7eb"


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One emotion of one generator: what was asked, what was got for each clip, both 0..1 or so."""

    generator: str
    emotion: str
    asked: tuple[float, ...]
    clips: Float[np.ndarray, "clip step"]
    critic: str

    @property
    def got(self) -> Float[np.ndarray, "step"]:
        """Mean over the clips."""
        return self.clips.mean(axis=0)

    @property
    def margin(self) -> Float[np.ndarray, "step"]:
        """Half the width of the mean's 95 % interval over clips; NaN for a single clip."""
        return _margin(self.clips)

    @property
    def least_step(self) -> tuple[float, float]:
        """The step that rises least, from one strength to the next, and half its 95 % interval (clips are paired)."""
        steps = np.diff(self.clips, axis=1)
        least = int(steps.mean(axis=0).argmin())
        return float(steps.mean(axis=0)[least]), float(_margin(steps)[least])

    @property
    def line(self) -> Linearity:
        """How straight and monotone the mean curve is."""
        return linearity(self.asked, self.got.tolist())

    @property
    def verdict(self) -> str:
        """Whether it rises at every step (within the tolerance of `linearity`): yes, no, or flat where it hardly moves."""
        if float(np.ptp(self.got)) < _FLAT:
            return "flat"
        return "yes" if self.line.monotone and self.got[-1] > self.got[0] else "no"


def _margin(rows: Float[np.ndarray, "clip column"]) -> Float[np.ndarray, "column"]:
    if len(rows) < 2:
        return np.full(rows.shape[1], np.nan)
    return _SURE * rows.std(axis=0, ddof=1) / np.sqrt(len(rows))


Maker = Callable[[Emotion, int], Measured]


def sweep(
    generators: Sequence[str] = GENERATORS,
    *,
    data: Path | None = None,
    emotions: Sequence[str] = EMOTIONS,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    device: str = "auto",
    portrait: Path | None = None,
    calibration: Calibration | None = None,
    judge: str = "reporting",
    takes: int | None = None,
    callback: ProgressCallback | None = None,
) -> list[Curve]:
    """The curves of the generators; voices speak the demo's sentence, or with `data` neutral takes of two speakers.

    `takes` are of each speaker, and eight times as many pieces of music. `judge` is one of `JUDGES`: those that report hear
    speakers whom no model has heard, those that choose hear others and other seeds, so that a calibration is held out;
    `strengths` are `STRENGTHS` for the first unless told, and `CALIBRATION_STRENGTHS` for the second.
    With `calibration` the strengths are translated first, which shows how linear they become. A portrait's motion is judged
    as curves; with the picture `portrait` it is drawn, read back off the pixels and judged.
    """
    unknown = [name for name in generators if name not in GENERATORS]
    if unknown:
        raise UsageError(f"no generator is called {unknown[0]!r}: use {', '.join(GENERATORS)}")
    if judge not in JUDGES:
        raise UsageError(f"no judge is called {judge!r}: use {' or '.join(JUDGES)}")
    stage = _Stage(
        data=data, device=device, portrait=portrait, judge=judge, takes=takes or _TAKES,
        split="test" if judge == "reporting" else "validation",
    )  # fmt: skip
    seed += 0 if judge == "reporting" else _OTHER_SEEDS
    if strengths is None:
        strengths = STRENGTHS if judge == "reporting" else CALIBRATION_STRENGTHS
    curves: list[Curve] = []
    for generator in generators:
        makers = list(_MAKERS[generator](stage))
        rising = [strength for strength in strengths if strength > 0]
        tell = _Counter(f"sweep {generator}", len(makers) * (1 + len(emotions) * len(rising)), callback)
        bases = [make(Emotion.neutral(), seed + row) for row, make in enumerate(makers)]
        tell("neutral", len(makers))
        for name in emotions:
            clips = np.zeros((len(makers), len(strengths)))
            for row, (make, base) in enumerate(zip(makers, bases, strict=True)):
                for column, strength in enumerate(strengths):
                    if strength == 0:
                        continue  # nothing of any emotion is the neutral one
                    emotion = _translated(Emotion.from_label(name, strength), generator, calibration)
                    clips[row, column] = got(make(emotion, seed + row), base, name)
                    tell(name)
            curves.append(
                Curve(
                    generator=generator, emotion=name, asked=tuple(strengths), clips=clips,
                    critic=bases[0].critic.name,
                )
            )  # fmt: skip
    return curves


class _Counter:
    """Tells how far a sweep has come."""

    def __init__(self, stage: str, total: int, callback: ProgressCallback | None) -> None:
        self._stage, self._total, self._callback, self._done = stage, total, callback, 0

    def __call__(self, message: str, count: int = 1) -> None:
        self._done += count
        if self._callback is not None:
            self._callback(
                ProgressEvent(stage=self._stage, done=self._done, total=self._total, message=message)
            )


def _translated(emotion: Emotion, generator: str, calibration: Calibration | None) -> Emotion:
    """What has to be asked for, so that as much is got as is wished."""
    if calibration is None:
        return emotion
    return calibration.applied(EmotionTrack.constant(emotion), generator).keyframes[0].emotion


def got(part: Measured, base: Measured, name: str) -> float:
    """How much of an emotion there is, against the reading of strength 0.

    Of a face: the critic's evidence for it against neutral, in tens of nats, since its probabilities are soon certain. Of
    the others: the share of the way to the emotion's place, half of it measured in VAD and half by probability where the
    critic knows the name, else all of it in VAD.
    """
    if part.critic == POSES:
        return part.mixture[name] - base.mixture[name]
    if part.medium == "face" and name in part.names:
        return (_evidence(part, name) - _evidence(base, name)) / 10.0
    vad, before = (np.average(each.vad, axis=0, weights=each.weights) for each in (part, base))
    way = np.array(Emotion.from_label(name).vad)
    moved = float((vad - before) @ way / (way @ way))
    if name not in part.names:
        return moved
    share = part.mixture[name] - base.mixture[name]
    return 0.5 * (moved + share)


def _evidence(part: Measured, name: str) -> float:
    """Mean log odds of an emotion against neutral, nats."""
    logs = np.log(np.maximum(part.shares, 1e-30))
    return float((logs[:, part.names.index(name)] - logs[:, part.names.index("neutral")]).mean())


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What is swept with whom: recordings, device, a picture, the judge."""

    data: Path | None
    device: str
    portrait: Path | None
    judge: str
    takes: int
    split: str

    def voice(self, audio: Audio, neutral: Audio | None) -> Measured:
        """What the judge hears in a voice."""
        if self.judge == "choosing":
            return critics.measure_voice(audio, encoder="speech-emotion")
        return critics.measure_voice(audio, neutral=neutral)

    def face(self, curves: FaceCurves) -> Measured:
        """What the judge sees in a face."""
        return measure_poses(curves, EMOTIONS) if self.judge == "choosing" else critics.measure_face(curves)

    def music(self, score: Score) -> Measured:
        """What the judge hears in a piece."""
        return critics.measure_music(score, encoder="formula" if self.judge == "choosing" else "embedded")


def demo_speech() -> Audio:
    """The sentence that comes with affetto."""
    with resources.as_file(resources.files("affetto.media") / "data" / "hello.flac") as path:
        return load_audio(path)


def _sources(stage: _Stage) -> list[tuple[Audio, Audio | None]]:
    """Recordings to speak, each with its speaker's neutral voice when that is known."""
    if stage.data is None:
        return [(demo_speech(), demo_speech())]
    takes = [
        take for take in read_takes(stage.data) if take.split == stage.split and take.emotion == "neutral"
    ]
    found = []
    for speaker in dict.fromkeys(take.speaker for take in takes):
        own = [take for take in takes if take.speaker == speaker]
        count = min(stage.takes, len(own) - 1)
        rest = np.concatenate([take.audio.mono() for take in own[count:]])[None]
        neutral = Audio(samples=np.ascontiguousarray(rest, np.float32), rate=own[0].audio.rate)
        found += [(take.audio, neutral) for take in own[:count]]
    return found


def _voices(stage: _Stage) -> Iterator[Maker]:
    from affetto.generators.voice.pipeline import VoiceConverter

    converter = VoiceConverter.from_pretrained("embedded", device=stage.device)
    for audio, neutral in _sources(stage):

        def make(
            emotion: Emotion, seed: int, audio: Audio = audio, neutral: Audio | None = neutral
        ) -> Measured:
            return stage.voice(converter(audio, emotion, seed=seed).audio, neutral)

        yield make


def _faces(stage: _Stage) -> Iterator[Maker]:
    from affetto.generators.face.pipeline import FaceAnimator

    animator = FaceAnimator.from_pretrained("embedded", device=stage.device)
    for audio, _ in _sources(stage):
        plan = animator.plan(audio)

        def make(emotion: Emotion, seed: int, plan: Any = plan) -> Measured:
            options = dataclasses.replace(plan.options, seed=seed)
            changed = dataclasses.replace(plan, track=EmotionTrack.constant(emotion), options=options)
            return stage.face(animator.perform(changed))

        yield make


def _music(stage: _Stage) -> Iterator[Maker]:
    from affetto.generators.music.pipeline import MusicComposer

    composer = MusicComposer.from_pretrained("embedded", device=stage.device)

    def make(emotion: Emotion, seed: int) -> Measured:
        return stage.music(composer(emotion, seconds=_PIECE_S, seed=seed).score)

    # several pieces, because which notes are drawn moves a critic more than a step of strength
    yield from [make] * (_PIECES * stage.takes)


def _portraits(stage: _Stage) -> Iterator[Maker]:
    yield from _portrait_curves(stage) if stage.portrait is None else _portrait_pictures(stage)


def _portrait_curves(stage: _Stage) -> Iterator[Maker]:
    from affetto.generators.portrait.motion import MotionGenerator

    motion = MotionGenerator.from_pretrained("embedded", device=stage.device)
    for audio, _ in _sources(stage):

        def make(emotion: Emotion, seed: int, audio: Audio = audio) -> Measured:
            return stage.face(motion(audio, emotion, seed=seed))

        yield make


def _portrait_pictures(stage: _Stage) -> Iterator[Maker]:
    """The drawn portrait, its performance read back off the pixels by one who has seen the photograph at rest."""
    from affetto.evaluation.portrait_film import Film
    from affetto.generators.portrait.detect import FaceFinder
    from affetto.generators.portrait.motion import MotionGenerator
    from affetto.head.model import HeadModel
    from affetto.media.image import load_image

    assert stage.portrait is not None
    finder = FaceFinder.from_pretrained(device=resolve_device(stage.device), dtype=torch.float32)
    film = Film.of(load_image(stage.portrait), str(stage.portrait), finder, HeadModel.load())
    motion = MotionGenerator.from_pretrained("embedded", device=stage.device)
    speech = demo_speech().sliced(0.0, _FILM_S)

    def make(emotion: Emotion, seed: int) -> Measured:
        return stage.face(film.read_back(motion(speech, emotion, seed=seed)))

    yield make


_MAKERS: Mapping[str, Callable[[_Stage], Iterator[Maker]]] = {
    "voice": _voices,
    "face": _faces,
    "music": _music,
    "portrait": _portraits,
}


def calibration_of(curves: Sequence[Curve]) -> Calibration:
    """The curves as a calibration."""
    by: dict[str, dict[str, AskGet]] = {}
    judges: dict[str, str] = {}
    for curve in curves:
        by.setdefault(curve.generator, {})[curve.emotion] = AskGet(asked=np.array(curve.asked), got=curve.got)
        judges[curve.generator] = curve.critic
    return Calibration(curves=by, critics=judges)


def rows_of(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """A row for each curve: what was got at each strength, rank correlation, straightness, whether it only rises."""
    return [
        {
            "generator": curve.generator,
            "emotion": curve.emotion,
            **{
                f"{strength:g}": round(float(value), 3)
                for strength, value in zip(curve.asked, curve.got, strict=True)
            },
            "± at 1": round(float(curve.margin[-1]), 3) if len(curve.clips) > 1 else "",
            "least step": _step(curve),
            "Spearman": round(curve.line.spearman, 3),
            "R2": round(curve.line.r2, 3),
            "rises": curve.verdict,
            "critic": curve.critic,
        }
        for curve in curves
    ]


def _step(curve: Curve) -> str:
    rise, margin = curve.least_step
    return f"{rise:+.3f}" if np.isnan(margin) else f"{rise:+.3f} ± {margin:.3f}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for a document."""
    heads = list(rows[0])
    shown = [[f"**{v}**" if v in ("no", "flat") else str(v) for v in row.values()] for row in rows]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in shown)]) + "\n"


def draw(path: Path, curves: Sequence[Curve]) -> Path:
    """A picture: a panel a generator, a line an emotion, asked strength across, what a critic found up."""
    generators = list(dict.fromkeys(curve.generator for curve in curves))
    figure = Figure(figsize=(4.3 * len(generators) + 0.6, 4.6), dpi=110, facecolor="white")
    for number, generator in enumerate(generators):
        axes = figure.add_subplot(1, len(generators), number + 1)
        _panel(axes, [curve for curve in curves if curve.generator == generator], first=number == 0)
    figure.subplots_adjust(left=0.06, right=0.985, top=0.87, bottom=0.25, wspace=0.22)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = min(len(labels), 4 * len(generators))
    figure.legend(handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None}, facecolor="white")
    return path


def _panel(axes: Axes, curves: Sequence[Curve], *, first: bool) -> None:
    for curve in curves:
        colour = emotion_colour(curve.emotion)
        if len(curve.clips) > 1:
            low, high = curve.got - curve.margin, curve.got + curve.margin
            axes.fill_between(curve.asked, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(
            curve.asked, curve.got, color=colour, linewidth=2.2, marker="o", markersize=4, label=curve.emotion
        )
    rising = sum(curve.verdict == "yes" for curve in curves)
    axes.set_title(
        f"{curves[0].generator}: {rising} of {len(curves)} rise throughout", loc="left", fontsize=10.5, color=_INK,
        fontweight="bold",
    )  # fmt: skip
    axes.set_xlabel(f"asked strength (judge: {curves[0].critic})", fontsize=9, color=_SOFT)
    if first:
        axes.set_ylabel("what is got", fontsize=9, color=_SOFT)
    axes.grid(visible=True, color=_GRID, linewidth=0.7)
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    for side in axes.spines.values():
        side.set_color(_GRID)
