"""`affetto bench voice`: the figures of the voice converter, each beside its baselines and its ceiling.

Without a data folder the bench measures speed, memory and sameness on the demo's sentence; with one (holding
`speech/emodb` and the readers) it adds what needs speakers no model was trained on.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from affetto.evaluation.voice_critic import core_choice
from affetto.evaluation.voice_machine import machine_rows
from affetto.evaluation.voice_metrics import rising
from affetto.evaluation.voice_sets import CORE, EMOTIONS, READERS, read_reader
from affetto.evaluation.voice_trial import TARGETS, Sample, Trial
from affetto.runtime.progress import ProgressCallback, ProgressEvent

Row = dict[str, Any]

_CORE_TARGETS = tuple(name for name in TARGETS if name in CORE)
_READER_STRENGTHS = (0.0, 0.33, 0.67, 1.0)
_READER_CLIPS = 6
_READER_KNOWN = 12  # sentences from which the critic knows the neutral voice
_NEAR = {"pitch": 3.0, "rate": 0.15, "tilt": 3.0}
"""How near the mean movement of a cue must come to that of natural speech: semitones, log of duration, dB."""


def run(
    data: Path | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    callback: ProgressCallback | None = None,
) -> list[Row]:
    """All figures as rows of measure, affetto, plain transform, linear bank, natural speech, bar, and whether it holds."""
    from affetto.generators.voice.pipeline import VoiceConverter

    converter = VoiceConverter.from_pretrained("embedded", device=device, dtype=dtype)
    parts: list[Callable[[], Iterator[Row]]] = [lambda: _machine(converter, seed)]
    if data is not None:
        trial = Trial(converter, data, seed=seed)
        parts += [
            lambda: _emotion_rows(trial),
            lambda: _identity_rows(trial),
            lambda: _cue_rows(trial),
            lambda: _ablation_rows(trial),
        ]
        parts += [partial(_reader_rows, trial, data, name) for name in READERS]
    rows: list[Row] = []
    for index, part in enumerate(parts):
        rows.extend(part())
        if callback is not None:
            callback(ProgressEvent(stage="bench voice", done=index + 1, total=len(parts)))
    return rows


def _row(
    measure: str,
    value: float,
    *,
    plain: float | str = "",
    bank: float | str = "",
    natural: float | str = "",
    bar: str = "",
    holds: bool | None = None,
) -> Row:
    def shown(figure: float | str) -> float | str:
        return figure if isinstance(figure, str) else round(float(figure), 3)

    return {
        "measure": measure,
        "affetto": shown(value),
        "plain transform": shown(plain),
        "linear bank": shown(bank),
        "natural speech": shown(natural),
        "bar": bar,
        "holds": "" if holds is None else bool(holds),
    }


def _machine(converter: Any, seed: int) -> Iterator[Row]:
    for measure, value, bar, holds in machine_rows(converter, seed):
        yield _row(measure, value, bar=bar, holds=holds)


def _named(samples: Sequence[Sample], emotion: str, strength: float = 1.0) -> float:
    """The share of an emotion's conversions at a strength that the critic names among the four CORE emotions."""
    chosen = [sample for sample in samples if sample.emotion == emotion and sample.strength == strength]
    return float(np.mean([core_choice(sample.probabilities) == emotion for sample in chosen]))


def _named_of_all(samples: Sequence[Sample], emotion: str) -> float:
    chosen = [sample for sample in samples if sample.emotion == emotion and sample.strength == 1.0]
    return float(np.mean([EMOTIONS[int(sample.probabilities.argmax())] == emotion for sample in chosen]))


def slopes(samples: Sequence[Sample], emotion: str) -> list[float]:
    """For each utterance, the rank correlation of strength with the critic's probability of the emotion."""
    courses: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.emotion == emotion:
            courses.setdefault(sample.take.name, []).append(sample)
    return [
        rising([each.strength for each in course], [each.wanted for each in course])
        for course in courses.values()
    ]


def _emotion_rows(trial: Trial) -> Iterator[Row]:
    ours, plain, bank = (trial.sweep(way) for way in ("affetto", "plain", "bank"))
    natural = trial.natural()
    core = [[_named(each, emotion) for emotion in _CORE_TARGETS] for each in (ours, plain, bank, natural)]
    means = [float(np.mean(values)) for values in core]
    yield _row(
        "critic names the target of angry, happy, sad (of four)", means[0], plain=means[1], bank=means[2],
        natural=means[3], bar=">= 0.70", holds=means[0] >= 0.70,
    )  # fmt: skip
    for index, emotion in enumerate(_CORE_TARGETS):
        a, b, c, d = (values[index] for values in core)
        yield _row(f"  {emotion}", a, plain=b, bank=c, natural=d)
    seven = [[_named_of_all(each, emotion) for emotion in TARGETS] for each in (ours, plain, bank, natural)]
    a, b, c, d = (float(np.mean(values)) for values in seven)
    yield _row("critic names the target of all six (of seven)", a, plain=b, bank=c, natural=d)
    for index, emotion in enumerate(TARGETS):
        a, b, c, d = (values[index] for values in seven)
        yield _row(f"  {emotion}", a, plain=b, bank=c, natural=d)
    courses = [{emotion: slopes(each, emotion) for emotion in TARGETS} for each in (ours, plain, bank)]
    a, b, c = (statistics.median(chain(*course.values())) for course in courses)
    yield _row(
        "strength against probability, median Spearman", a, plain=b, bank=c, bar=">= 0.95", holds=a >= 0.95
    )
    for emotion in TARGETS:
        a, b, c = (float(np.mean(course[emotion])) for course in courses)
        yield _row(f"  mean, {emotion}", a, plain=b, bank=c, bar=">= 0.85", holds=a >= 0.85)


def _identity_rows(trial: Trial) -> Iterator[Row]:
    ours, plain, bank = (trial.sweep(way) for way in ("affetto", "plain", "bank"))
    full = [[each for each in samples if each.strength == 1.0] for samples in (ours, plain, bank)]
    natural = trial.natural()
    a, b, c = (trial.retrieved(samples, own=True) for samples in full)
    yield _row("sentence found among ten, the source among them", a, plain=b, bank=c, bar="1", holds=a == 1.0)
    a, b, c, d = (trial.retrieved(samples, own=False) for samples in (*full, natural))
    yield _row("sentence found among ten by other speakers", a, plain=b, bank=c, natural=d)
    a, b, c = (trial.distance(samples) for samples in full)
    yield _row(
        "distance of the words from the source (DTW)", a, plain=b, bank=c, natural=trial.natural_distance()
    )
    a, b, c, d = (trial.identified(samples) for samples in (*full, natural))
    yield _row("speaker named among ten", a, plain=b, bank=c, natural=d, bar=">= 0.84", holds=a >= 0.84)
    for measure, field in (("loudness (K-weighted)", "loudness_db"), ("level (RMS)", "level_db")):
        a, b, c = (max(trial.spreads(samples, field)) for samples in (ours, plain, bank))
        yield _row(
            f"largest spread of {measure} over the slider, dB", a, plain=b, bank=c, bar="<= 3", holds=a <= 3.0
        )


def _cue_rows(trial: Trial) -> Iterator[Row]:
    ours, plain, bank = (trial.sweep(way) for way in ("affetto", "plain", "bank"))
    table = trial.table
    names = {
        "pitch": "mean pitch, semitones",
        "spread": "spread of pitch, semitones",
        "rate": "duration, ln of the ratio",
        "tilt": "treble against bass, dB",
    }
    for emotion in _CORE_TARGETS:
        moves = [trial.moves(samples, emotion) for samples in (ours, plain, bank)]
        for cue, name in names.items():
            a, b, c = (move[cue] for move in moves)
            wanted = table[emotion][cue]
            near = _NEAR.get(cue)
            yield _row(
                f"{emotion}: {name}", a, plain=b, bank=c, natural=wanted,
                bar="" if near is None else f"{wanted:+.2f} +- {near:g}",
                holds=None if near is None else abs(a - wanted) <= near,
            )  # fmt: skip


def _ablation_rows(trial: Trial) -> Iterator[Row]:
    still = trial.sweep("still", emotions=_CORE_TARGETS, strengths=(1.0,))
    yield _row(
        "ablation, no directions: critic names the target (of four)",
        float(np.mean([_named(still, emotion) for emotion in _CORE_TARGETS])),
    )
    for measure, samples in (("no directions", still), ("with directions", trial.sweep("affetto"))):
        found = [each.wanted for each in samples if each.emotion in _CORE_TARGETS and each.strength == 1.0]
        yield _row(f"  mean probability of the target, {measure}", float(np.mean(found)))


def _reader_rows(trial: Trial, data: Path, name: str) -> Iterator[Row]:
    known = read_reader(data, name, count=_READER_KNOWN)
    takes = known[-_READER_CLIPS:]
    trial.know(known)
    ours, plain, bank = (
        trial.convert_all(way, takes, _CORE_TARGETS, _READER_STRENGTHS)
        for way in ("affetto", "plain", "bank")
    )
    who = READERS[name]
    a, b, c = (
        float(np.mean([_named(each, emotion) for emotion in _CORE_TARGETS])) for each in (ours, plain, bank)
    )
    yield _row(f"{who}: critic names the target (of four)", a, plain=b, bank=c)
    for emotion in _CORE_TARGETS:
        a, b, c = (_named(each, emotion) for each in (ours, plain, bank))
        yield _row(f"  {emotion}", a, plain=b, bank=c)
    a, b, c = (
        float(np.mean([slope for emotion in _CORE_TARGETS for slope in slopes(each, emotion)]))
        for each in (ours, plain, bank)
    )
    yield _row("  strength against probability, mean Spearman", a, plain=b, bank=c)
    a, b, c = (
        trial.distance([each for each in samples if each.strength == 1.0]) for samples in (ours, plain, bank)
    )
    yield _row("  distance of the words from the source (DTW)", a, plain=b, bank=c)
