"""A contact sheet: what is seen at the turns of the emotion, the emotion over time, the sound, the words, the sync."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from affetto.conditioning.figure import AXIS_COLOURS, emotion_colour
from affetto.media.audio import Audio
from affetto.runtime.files import atomic_path
from affetto.scene.exports import cue_times
from affetto.scene.model import Scene
from affetto.scene.scoring import turns
from affetto.scene.timeline import Timeline

if TYPE_CHECKING:
    from affetto.scene.performance import Performance

SHEET_FRAMES = 7
_INK, _SOFT, _GRID, _PAPER = "#23262d", "#6b7280", "#e5e7eb", "#ffffff"
_VOICES = ("#3b6fb6", "#b5651d", "#5b8c5a", "#8a5a9e")
_MUSIC = "#c9b458"
_WIDTH, _LEFT, _RIGHT = 14.0, 0.055, 0.985  # inches; shares of them
_COLUMN = _WIDTH * (_RIGHT - _LEFT) / (SHEET_FRAMES + 0.04 * (SHEET_FRAMES - 1))  # inches of one picture
_HIGHEST = 2.6  # inches of a tall one
_TITLE, _LABELS, _BESIDE, _APART, _BELOW = 0.42, 0.24, 0.08, 0.44, 0.5  # inches
_CURVES = (1.7, 1.5)  # inches of the emotion and of the sound


def moments(timeline: Timeline, fps: float, count: int = SHEET_FRAMES) -> list[int]:
    """The frames that tell most: spread over the words, near the middle of what each emotion lasts."""
    total = max(round(timeline.seconds * fps), 1)
    keys = turns(timeline.course, timeline.speech_stop)
    edges = np.array([0.0, *keys, timeline.speech_stop])
    middles = [0.5 * (a + b) for a, b in itertools.pairwise(edges) if b - a > 0.25]
    spread = np.linspace(0.0, timeline.speech_stop, count + 2)[1:-1].tolist()
    chosen: list[float] = []
    for time in (*middles, *spread):
        if len(chosen) < count and all(
            abs(time - other) > timeline.speech_stop / (3 * count) for other in chosen
        ):
            chosen.append(time)
    return sorted({min(round(time * fps), total - 1) for time in chosen})


def draw_sheet(
    path: Path,
    scene: Scene,
    performance: "Performance",
    frames: Mapping[str, Sequence[UInt8[np.ndarray, "r c 3"]]],
) -> Path:
    """Write the contact sheet as PNG; the same scene always gives the same bytes."""
    rows = [kind for kind, shown in frames.items() if shown]
    marks = moments(performance.timeline, scene.fps)
    high = [min(_COLUMN / (frames[kind][0].shape[1] / frames[kind][0].shape[0]), _HIGHEST) for kind in rows]
    parts = [inches for height in high for inches in (height, _BESIDE)][:-1] + [_APART] * bool(rows)
    parts += [*_CURVES[:1], _APART, *_CURVES[1:]]
    above = _TITLE + (_LABELS if rows else _APART)
    whole = above + sum(parts) + _BELOW
    figure = Figure(figsize=(_WIDTH, whole), dpi=110, facecolor=_PAPER)
    grid = GridSpec(len(parts), 1, figure=figure, height_ratios=parts, hspace=0.0, left=_LEFT, right=_RIGHT,
                    top=1.0 - above / whole, bottom=_BELOW / whole)  # fmt: skip
    for row, kind in enumerate(rows):
        _draw_frames(figure, grid[2 * row], frames[kind], marks, scene, performance.timeline, labels=row == 0)
    _draw_course(
        figure.add_subplot(grid[len(parts) - 3]), performance.timeline, [mark / scene.fps for mark in marks]
    )
    _draw_sound(figure.add_subplot(grid[len(parts) - 1]), performance)
    line = 1.0 - 0.5 * _TITLE / whole
    figure.text(_LEFT, line, scene.title or "Scene", color=_INK, fontsize=16, fontweight="bold", va="center")
    figure.text(_RIGHT, line, _facts(performance), color=_SOFT, fontsize=9, va="center", ha="right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None}, facecolor=_PAPER)
    return path


def _facts(performance: "Performance") -> str:
    report, done = performance.mix_report, performance.sync
    parts = [f"{performance.timeline.seconds:.1f} s", f"{report.loudness_lufs:.1f} LUFS"]
    if performance.piece is not None:
        parts.append(performance.piece.plan.key)
    parts += [f"{lag.what} {lag.milliseconds:+.0f} ms" for lag in done.lags]
    return "   ".join(parts)


def _draw_frames(
    figure: Figure, place: object, shown: Sequence[np.ndarray], marks: Sequence[int], scene: Scene, timeline: Timeline,
    *, labels: bool,
) -> None:  # fmt: skip
    grid = place.subgridspec(1, SHEET_FRAMES, wspace=0.04)  # pyright: ignore[reportAttributeAccessIssue]
    for column, (frame, mark) in enumerate(zip(shown, marks, strict=False)):
        axes = figure.add_subplot(grid[column])
        step = max(1, frame.shape[0] // 256)
        axes.imshow(frame[::step, ::step], interpolation="antialiased")
        axes.axis("off")
        if labels:
            time = mark / scene.fps
            emotion = timeline.course.at(time)
            name = max(emotion.named().items(), key=lambda item: item[1] * (item[0] != "neutral"))[0]
            told = "neutral" if emotion.intensity < 0.05 else f"{name} {emotion.intensity:.1f}"
            axes.set_title(f"{time:.1f} s  {told}", fontsize=9, color=_INK, pad=4)


def _draw_course(axes: Axes, timeline: Timeline, marks: Sequence[float]) -> None:
    times = np.linspace(0.0, timeline.seconds, 800)
    batch = timeline.course.sample(times)
    shares = batch.anchors()
    top = shares[:, 1:].argmax(axis=1)
    from affetto.conditioning.anchors import ANCHORS_8

    for start, stop in _runs(top, shares[:, 1:].max(axis=1) > 0.25):
        colour = emotion_colour(ANCHORS_8[1 + int(top[start])])
        axes.axvspan(times[start], times[min(stop, len(times) - 1)], color=colour, alpha=0.14, linewidth=0)
    axes.axhline(0, color=_SOFT, linewidth=0.8)
    for column, (name, colour) in enumerate(AXIS_COLOURS.items()):
        axes.plot(times, batch.effective_vad[:, column], color=colour, linewidth=2.0, label=name)
    for mark in marks:
        axes.axvline(mark, color=_INK, linewidth=0.7, alpha=0.3, linestyle=(0, (2, 2)))
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8.5, borderaxespad=0.1
    )
    axes.set(xlim=(0, timeline.seconds), ylim=(-1.05, 1.05))
    axes.set_title("Emotion", loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5)
    _dress(axes)
    axes.tick_params(labelbottom=False)


def _runs(values: np.ndarray, kept: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero((np.diff(values) != 0) | (np.diff(kept.astype(int)) != 0)) + 1
    bounds = [0, *edges.tolist(), len(values)]
    return [(a, b) for a, b in itertools.pairwise(bounds) if kept[a]]


def _envelope(audio: Audio, seconds: float, points: int = 900) -> Float[np.ndarray, "point"]:
    size = max(int(audio.rate * seconds / points), 1)
    mono = np.abs(audio.mono())
    count = len(mono) // size
    return mono[: count * size].reshape(count, size).max(axis=1) if count else np.zeros(1)


def _draw_sound(axes: Axes, performance: "Performance") -> None:
    timeline = performance.timeline
    if performance.music is not None:
        wave = _envelope(performance.music, timeline.seconds)
        wave = 0.45 * wave / max(float(wave.max()), 1e-6)
        axes.fill_between(np.linspace(0, timeline.seconds, len(wave)), -wave, wave, color=_MUSIC, alpha=0.45, linewidth=0,
                          label="music")  # fmt: skip
    for index, (name, stem) in enumerate(performance.stems.items()):
        wave = _envelope(stem, timeline.seconds)
        wave = 0.8 * wave / max(float(wave.max()), 1e-6)
        axes.fill_between(np.linspace(0, timeline.seconds, len(wave)), -wave, wave, color=_VOICES[index % len(_VOICES)],
                          alpha=0.9, linewidth=0, label=name)  # fmt: skip
    if performance.piece is not None:
        for start in performance.piece.plan.starts[:-1]:
            axes.axvline(float(start), color=_SOFT, linewidth=0.5, alpha=0.5, ymin=0, ymax=0.08)
    cues = cue_times(timeline, alone=True)
    if len(cues) <= 24:
        room = 190.0 / timeline.seconds  # letters a second of the axis
        for index, (start, _, _, _, words) in enumerate(cues):
            until = cues[index + 2][0] if index + 2 < len(cues) else timeline.seconds
            limit = max(int((until - start) * room), 4)
            told = words if len(words) <= limit else words[: limit - 1] + "…"
            height = -1.42 if index % 2 else -1.18
            axes.text(start, height, told, fontsize=7.8, color=_INK, va="bottom", ha="left")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=6, frameon=False, fontsize=8.5, borderaxespad=0.1
    )
    axes.set(xlim=(0, timeline.seconds), ylim=(-1.5, 1.0), yticks=[])
    axes.set_title("Sound", loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5)
    axes.set_xlabel("seconds", fontsize=9, color=_SOFT)
    _dress(axes)


def _dress(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=_GRID, linewidth=0.7)
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    for side in axes.spines.values():
        side.set_color(_GRID)
