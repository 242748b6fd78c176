"""A picture of a piece: its notes, sections and chords, and the emotion asked for beside that measured."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from affetto.generators.music.arrange import played_rows
from affetto.generators.music.compose import Composition
from affetto.generators.music.form import MusicPlan
from affetto.runtime.files import atomic_path

_TUNE, _OTHERS = (0.86, 0.29, 0.25), (0.16, 0.42, 0.62)
_COLOURS = ("#1f9e77", "#dc4b40")
_INK, _GRID = "#23262d", "#e6e8ec"
_LOW, _HIGH = 24, 100
_AXES = ("valence", "arousal")

Roll = tuple[MusicPlan, Composition, Float64[np.ndarray, "bar 7"]]
"""A plan, what was composed for it, and the curve of `MusicPiece.emotion_curve`."""


def draw_rolls(path: str | Path, rolls: Mapping[str, Roll]) -> Path:
    """Write a .png with one row for each piece: the tune red, the rest blue, louder notes darker.

    Beneath each: valence and arousal asked for (dotted) and measured (line).
    """
    path = Path(path)
    heights = [height for _ in rolls for height in (3.2, 1.0)]
    figure = Figure(
        figsize=(14.0, sum(heights) * 0.95 + 0.4), dpi=80, facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(rolls), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for row, (title, (plan, composition, curve)) in enumerate(rolls.items()):
        _draw_notes(axes[2 * row], title, plan, composition)
        _draw_curves(axes[2 * row + 1], plan, curve)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path


def _draw_notes(axis: Axes, title: str, plan: MusicPlan, composition: Composition) -> None:
    boxes, colours = [], []
    for start, length, pitch, velocity, tune, _ in played_rows(composition, plan).tolist():
        boxes.append(Rectangle((start / 4, pitch - 0.42), length / 4 - 0.04, 0.84))
        strength = 0.35 + 0.65 * float(np.clip((velocity - 20) / 90, 0, 1))
        colours.append((*(_TUNE if tune else _OTHERS), strength))
    axis.add_collection(PatchCollection(boxes, facecolors=colours, linewidths=0))
    sounding = ""
    for index, bar in enumerate(plan.bars):
        beat = index * plan.beats
        fresh = index == 0 or bar.phrase != plan.bars[index - 1].phrase
        axis.axvline(beat, color=_INK if fresh else _GRID, linewidth=1.2 if fresh else 0.8, zorder=0)
        if fresh:
            axis.text(beat + 0.1, _HIGH - 3, bar.section, fontsize=9, color=_INK, weight="bold", va="top")
        for slot, chord in enumerate(bar.chords):
            if chord != sounding:
                text = chord.replace("_M7", "maj7").replace("_M", "").replace("_", "")
                axis.text(beat + slot * plan.beats / 4 + 0.1, _LOW + 0.6, text, fontsize=7, color=_INK)
                sounding = chord
    axis.set(xlim=(0, len(plan.bars) * plan.beats), ylim=(_LOW, _HIGH), xticks=[])
    axis.set_yticks(range(36, 97, 12), [f"C{octave}" for octave in range(2, 8)], fontsize=7)
    axis.grid(axis="y", color=_GRID)
    bpm = [bar.bpm for bar in plan.bars]
    pace = f"{min(bpm):.0f}-{max(bpm):.0f}" if max(bpm) - min(bpm) > 1 else f"{bpm[0]:.0f}"
    axis.set_title(
        f"{title}: {plan.key}, {plan.metre}, {pace} a minute, {plan.seconds:.1f} s",
        fontsize=10,
        loc="left",
        color=_INK,
    )


def _draw_curves(axis: Axes, plan: MusicPlan, curve: Float64[np.ndarray, "bar 7"]) -> None:
    middles = (np.arange(len(plan.bars)) + 0.5) * plan.beats
    for column, (name, colour) in enumerate(zip(_AXES, _COLOURS, strict=True)):
        axis.plot(middles, curve[:, 1 + column], ":", color=colour, linewidth=2.0)
        axis.plot(middles, curve[:, 4 + column], "-", color=colour, linewidth=1.4, label=name)
    axis.set(xlim=(0, len(plan.bars) * plan.beats), ylim=(-1.05, 1.05), xticks=[])
    axis.set_yticks([-1, 0, 1], ["-1", "0", "1"], fontsize=7)
    axis.axhline(0.0, color=_GRID, zorder=0)
    axis.legend(loc="center right", fontsize=7, frameon=False)
