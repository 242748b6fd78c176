"""`affetto bench music`: what the composer reaches, each figure beside a rule baseline and real music.

With a data folder that holds EMOPIA the emotions are judged by critics fitted to it there and then, and the notes compared
with its; without, the rows that need no other music remain. Readers of 1,000 clips: `benchmarks/music_composer.py --clips`.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pretty_midi
import symusic
import torch
from jaxtyping import Float64
from symusic.core import ScoreTick

from affetto.evaluation.music_critic import TASKS, Panel, Verdicts
from affetto.evaluation.music_metrics import (
    METRICS,
    cut,
    dominant,
    effect_matrix,
    ends_on_tonic,
    metrics_of,
    overlap_floor,
    overlapped_area,
    rank_correlation,
    shuffled_accuracy,
)
from affetto.evaluation.music_sets import LabelledClip, archive_in, as_written, read_emopia
from affetto.evaluation.music_trial import LEVELS, Trial
from affetto.generators.music.composer_net import BAR_COLUMNS, FADERS, ComposerBatch
from affetto.generators.music.pipeline import MusicComposer, MusicPiece
from affetto.media.midi import Score, midi_bytes
from affetto.media.music import KEYS
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import ProgressCallback, ProgressEvent

Row = dict[str, Any]

_CRITICS = ("critic", "critic without the formula's features")
_CHANCE = 0.35
_RERUN_WORDS = 1024  # positions that MusER's published loop computes again for every word


def run(
    data: Path | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    callback: ProgressCallback | None = None,
) -> list[Row]:
    """All figures as rows of measure, affetto, rules, real music, bar, and whether it holds."""
    archive = None if data is None else archive_in(data)
    if data is not None and archive is None:
        raise InvalidInputError(f"{data}: holds no emopia_train_val.zip: put EMOPIA's archive there")
    composer = MusicComposer.from_pretrained("embedded", device=device, dtype=dtype)
    clips = [] if archive is None else read_emopia(archive, progress=callback)
    trial = Trial(composer, seed=seed, tick=_ticker(callback))
    return [*_speed_rows(trial), *rows_of(trial, clips)]


def rows_of(trial: Trial, clips: Sequence[LabelledClip]) -> list[Row]:
    """The rows of a trial but for speed; those that need played music only when there is some."""
    rows = list(_judged_rows(trial, clips)) if clips else []
    rows += [*_fader_rows(trial), *_course_rows(trial), *_sameness_rows(trial)]
    trial.vary()
    return [*rows, *_reader_rows(trial)]


def _ticker(callback: ProgressCallback | None) -> Any:
    count = 0

    def tick(what: str) -> None:
        nonlocal count
        count += 1
        if callback is not None:
            callback(ProgressEvent(stage="pieces", done=count, total=0, message=what))

    return tick


def _row(
    measure: str,
    value: float,
    *,
    rules: float | str = "",
    real: float | str = "",
    bar: str = "",
    holds: bool | None = None,
) -> Row:
    def shown(figure: float | str) -> float | str:
        return figure if isinstance(figure, str) else round(float(figure), 3)

    return {
        "measure": measure,
        "affetto": shown(value),
        "rules": shown(rules),
        "real music": shown(real),
        "bar": bar,
        "holds": "" if holds is None else bool(holds),
    }


def _judged_rows(trial: Trial, clips: Sequence[LabelledClip]) -> Iterator[Row]:
    """Emotions and statistics of composed, rule-made and played music, all cut and written alike."""
    played = [cut(clip.score, trial.seconds) for clip in clips]
    heard = [len(score.notes) > 8 for score in played]
    clips = [clip for clip, kept in zip(clips, heard, strict=True) if kept]
    played = [score for score, kept in zip(played, heard, strict=True) if kept]
    ours = [cut(as_written(asked.piece.score), trial.seconds) for asked in trial.asked]
    ruled = [cut(as_written(score), trial.seconds) for score in trial.ruled]
    yield from _emotion_rows(trial, Panel.taught(clips, played), ours, ruled)
    yield from _metric_rows(ours, ruled, played, trial.seed)


def _emotion_rows(trial: Trial, panel: Panel, ours: Sequence[Score], ruled: Sequence[Score]) -> Iterator[Row]:
    said, rules = panel.verdicts(ours), panel.verdicts(ruled)
    quadrants = trial.quadrants
    for index, critic in enumerate(_CRITICS):
        ours_right, rules_right = said[index].accuracies(quadrants), rules[index].accuracies(quadrants)
        real_right = panel.played[index].accuracies(panel.quadrants)
        for task in TASKS:
            value, ceiling = ours_right[task], real_right[task]
            yield _row(
                f"{critic}: {task} as asked", value, rules=rules_right[task], real=ceiling,
                bar=">= real" if index == 0 else "", holds=value >= ceiling if index == 0 else None,
            )  # fmt: skip
    for quadrant in range(1, 5):
        yield _row(
            f"  quadrant {quadrant}", _recall(said[0], quadrants, quadrant),
            rules=_recall(rules[0], quadrants, quadrant),
            real=_recall(panel.played[0], panel.quadrants, quadrant),
        )  # fmt: skip
    chance = shuffled_accuracy(quadrants, said[0].quadrant.argmax(axis=1) + 1, np.random.default_rng(0))
    yield _row("critic: quadrant for shuffled requests", chance, bar=f"<= {_CHANCE}", holds=chance <= _CHANCE)
    wanted = _asked_vad([asked.piece for asked in trial.asked])
    for axis, name, probability in ((0, "valence", said[0].valence), (1, "arousal", said[0].arousal)):
        rho = rank_correlation(wanted[:, axis].tolist(), probability.tolist())
        yield _row(f"asked {name} against the critic's probability, Spearman", rho)
        measured = [asked.piece.emotion_curve()[:, 4 + axis].mean() for asked in trial.asked]
        yield _row(
            f"asked {name} against the formula, Spearman over pieces",
            rank_correlation(wanted[:, axis].tolist(), measured),
        )


def _asked_vad(pieces: Sequence[MusicPiece]) -> Float64[np.ndarray, "piece 3"]:
    return np.stack([piece.emotion_curve()[:, 1:4].mean(axis=0) for piece in pieces])


def _recall(verdicts: Verdicts, quadrants: np.ndarray, quadrant: int) -> float:
    return float((verdicts.quadrant.argmax(axis=1)[quadrants == quadrant] + 1 == quadrant).mean())


def _metric_rows(
    ours: Sequence[Score], ruled: Sequence[Score], played: Sequence[Score], seed: int
) -> Iterator[Row]:
    tables = [
        np.array([list(metrics_of(score).values()) for score in scores]) for scores in (ours, ruled, played)
    ]
    for column, name in enumerate(METRICS):
        a, b, c = (float(table[:, column].mean()) for table in tables)
        yield _row(f"{name}, mean", a, rules=b, real=c)
    for column, name in enumerate(METRICS):
        mine, theirs, real = (table[:, column].tolist() for table in tables)
        floor = overlap_floor(real, len(mine), np.random.default_rng(seed))
        yield _row(
            f"{name}, overlapped area with real music", overlapped_area(real, mine),
            rules=overlapped_area(real, theirs), real=floor,
        )  # fmt: skip


def _fader_rows(trial: Trial) -> Iterator[Row]:
    for index, name in enumerate(FADERS):
        found = trial.swept[name][:, :, index]
        rho = rank_correlation(np.tile(LEVELS, len(found)).tolist(), found.ravel().tolist())
        yield _row(f"fader {name} against the notes, Spearman", rho, bar=">= 0.9", holds=rho >= 0.9)
    matrix = effect_matrix(trial.swept)
    count = dominant(matrix)
    yield _row(
        "faders that move their own attribute most, of six", float(count), bar="6", holds=count == len(FADERS)
    )
    for name, row in zip(FADERS, matrix, strict=True):
        others = ", ".join(
            f"{other} {value:+.1f}" for other, value in zip(FADERS, row, strict=True) if other != name
        )
        yield _row(f"  {name} moves itself (and {others})", float(row[FADERS.index(name)]))


def _course_rows(trial: Trial) -> Iterator[Row]:
    bars = np.concatenate(trial.courses)
    for axis, name in ((1, "valence"), (2, "arousal")):
        rho = rank_correlation(bars[:, axis].tolist(), bars[:, axis + 3].tolist())
        yield _row(
            f"{name} curve against the formula, bar by bar, Spearman", rho, bar=">= 0.9", holds=rho >= 0.9
        )


def _speed_rows(trial: Trial) -> Iterator[Row]:
    trial.compose("happy", bars=2, seed=1)
    began, busy = time.perf_counter(), time.process_time()
    piece = trial.compose("happy", seconds=30.0, seed=1)
    clock, worked = time.perf_counter() - began, time.process_time() - busy
    # On idle cores the clock shows no more than the processors' time; on busy ones it measures the others' work.
    yield _row("30 s of music, s of processor", worked, bar="<= 5", holds=worked <= 5.0)
    yield _row("30 s of music, s by the clock, as busy as the machine is", clock)
    speed = piece.composition.words / worked
    yield _row("words a second of processor, all versions counted", speed)
    ratio = speed * _rerun_seconds(trial.composer)
    yield _row(
        "times the speed of computing 1,024 words again for each", ratio, bar=">= 20", holds=ratio >= 20.0
    )


@torch.no_grad()
def _rerun_seconds(composer: MusicComposer) -> float:
    """Processor time of one word in the published way: all positions through the whole network."""
    net = composer.model.net
    device = next(net.parameters()).device
    rng = torch.Generator().manual_seed(0)
    words = torch.randint(0, 2, (1, _RERUN_WORDS, 6), generator=rng).to(device)
    batch = ComposerBatch(
        words=words,
        segment=torch.zeros_like(words[..., 0]),
        bar_of=torch.zeros_like(words[..., 0]),
        bars=torch.zeros((1, 1, len(BAR_COLUMNS)), dtype=torch.int64, device=device),
        vad=torch.zeros((1, 1, 3), device=device),
        vad_known=torch.ones((1, 1), dtype=torch.bool, device=device),
    )
    net(batch)
    busy = time.process_time()
    for _ in range(3):
        net(batch)
    return (time.process_time() - busy) / 3.0


def _sameness_rows(trial: Trial) -> Iterator[Row]:
    two = [midi_bytes(trial.compose("0:happy; 6:sad", seconds=12.0, seed=trial.seed).score) for _ in range(2)]
    same = two[0] == two[1]
    yield _row("same seed gives the same bytes (1 = yes)", float(same), bar="1", holds=same)
    plain = midi_bytes(trial.compose(None, bars=4, seed=trial.seed).score)
    still = all(
        midi_bytes(trial.compose(feeling, bars=4, seed=trial.seed).score) == plain
        for feeling in ("angry@0", "neutral")
    )
    yield _row("intensity 0 is the neutral piece (1 = yes)", float(still), bar="1", holds=still)


def _reader_rows(trial: Trial) -> Iterator[Row]:
    pieces = [piece for piece, _, _ in trial.made]
    count = len(pieces)
    with tempfile.TemporaryDirectory() as folder:
        good = sum(read_alike(piece.score, Path(folder) / "clip.mid") for piece in pieces)
    yield _row(
        f"of {count} pieces, two readers open and agree on", good / count, bar="1", holds=good == count
    )
    exact = [
        abs(piece.seconds - seconds) < 0.002 if seconds is not None else len(piece.plan.bars) == bars
        for piece, seconds, bars in trial.made
    ]
    yield _row("exactly as long as asked", float(np.mean(exact)), bar="1", holds=all(exact))
    closed = [piece for piece in pieces if piece.plan.ending == "cadence"]
    home = float(np.mean([ends_on_tonic(each.score, KEYS.index(each.plan.key) % 12) for each in closed]))
    yield _row("cadences that end on the tonic", home, bar="1", holds=home == 1.0)
    longest = max(piece.copy.longest for piece in pieces)
    yield _row("longest run of notes of a training song", float(longest), bar="<= 24", holds=longest <= 24)
    copies = sum(piece.copy.copied for piece in pieces)
    yield _row("pieces that are copies", float(copies), bar="0", holds=copies == 0)


def read_alike(score: Score, path: Path) -> bool:
    """Whether symusic and pretty_midi both open the score written to `path` and find all its notes at their pitches."""
    path.write_bytes(midi_bytes(score))
    wanted = sorted(score.notes["pitch"].tolist())
    parsed = cast(ScoreTick, symusic.Score.from_midi(path.read_bytes()))
    first = sorted(note.pitch for track in parsed.tracks for note in track.notes)
    other = pretty_midi.PrettyMIDI(str(path))
    second = sorted(note.pitch for track in other.instruments for note in track.notes)
    return first == wanted and second == wanted
