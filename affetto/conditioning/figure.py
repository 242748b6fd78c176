"""A picture of an emotion track: what is felt when, the VAD curves, and the path over the circumplex."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from affetto.conditioning.anchors import ANCHORS_8, anchor_rows
from affetto.conditioning.batch import EmotionBatch
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.lexicon import LEXICON
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

ANCHOR_COLOURS = ("#b4b9c2", "#f4b731", "#4f83cc", "#dc4b40", "#8460b5", "#6fa04b", "#f0883e", "#9c7560")
AXIS_COLOURS = {"valence": "#1f9e77", "arousal": "#dc4b40", "dominance": "#4d59b5"}
_INK, _SOFT, _GRID, _PAPER = "#23262d", "#6d7480", "#e6e8ec", "#ffffff"
_FACE_LABELS = ("happy", "sad", "angry", "fear", "disgusted", "surprised", "contempt")
_MORE_LABELS = ("relaxed", "excited", "bored", "calm", "proud")
_BESIDE = {"fear": "right", "angry": "left", "happy": "left"}  # where a word below its dot would meet another
_MAX_FRAMES = 4_000
_MAX_KEYS_SHOWN = 24


def emotion_colour(name: str) -> tuple[float, float, float]:
    """The RGB colour of a term, 0..1: the mean of its anchors' colours."""
    palette = np.array([to_rgb(colour) for colour in ANCHOR_COLOURS])
    r, g, b = anchor_rows((name,))[0] @ palette
    return float(r), float(g), float(b)


def draw_track(
    track: EmotionTrack,
    path: str | Path,
    *,
    title: str = "",
    seconds: float | None = None,
    size: tuple[int, int] = (1800, 1000),
    overwrite: bool = True,
) -> None:
    """Write a picture of the track (PNG, SVG or PDF by suffix) of `size` pixels, 0 to `seconds` (default: all)."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{path}: plots are written as .png, .svg or .pdf")
    stop = (
        (max(track.seconds * 1.04, track.seconds + 0.25) if track.seconds else 1.0)
        if seconds is None
        else seconds
    )
    if not (math.isfinite(stop) and stop > 0):
        raise UsageError(f"a plot needs a positive length, got {stop:g} s")
    times = np.linspace(0, stop, min(_MAX_FRAMES, max(400, round(stop * 50))))
    batch = track.sample(times)
    figure = Figure(figsize=(size[0] / 150, size[1] / 150), dpi=150, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        3, 2, width_ratios=(1.35, 1), height_ratios=(1.15, 1.5, 0.75), left=0.055, right=0.975, top=0.835, bottom=0.085,
        hspace=0.26, wspace=0.13,
    )  # fmt: skip
    names, curves, amount = (figure.add_subplot(grid[row, 0]) for row in range(3))
    _draw_names(names, times, batch)
    _draw_curves(curves, times, batch)
    _draw_amount(amount, times, batch)
    for axes in (names, curves, amount):
        _dress(axes, track, stop, last=axes is amount)
    _draw_circumplex(figure.add_subplot(grid[:, 1]), track, times, batch, stop)
    figure.text(
        0.055, 0.935, title or "Emotion track", color=_INK, fontsize=16, fontweight="bold", va="center"
    )
    text = str(track)
    if title != text and len(track.keyframes) <= _MAX_KEYS_SHOWN:
        shown = text if len(text) <= 150 else text[:147] + "..."
        figure.text(0.055, 0.902, shown, color=_SOFT, fontsize=8.5, va="center", family="monospace")
    # No dates and no random ids: the same track gives the same bytes.
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with atomic_path(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, metadata=metadata[path.suffix.lower()], facecolor=_PAPER)


def _draw_names(axes: Axes, times: Float[np.ndarray, "frame"], batch: EmotionBatch) -> None:
    if batch.names:
        order, shares = batch.names, batch.effective_mixture
    else:
        order, shares = ANCHORS_8, batch.anchors()
    shares = np.maximum(shares, 0)
    shares = shares / shares.sum(axis=1, keepdims=True)
    keep = [i for i, name in enumerate(order) if shares[:, i].max() > 0.02 or name == "neutral"]
    keep.sort(key=lambda i: order[i] != "neutral")
    colours = [emotion_colour(order[i]) for i in keep]
    axes.stackplot(times, *(shares[:, i] for i in keep), colors=colours, linewidth=0.6, edgecolor=_PAPER)
    floor = np.cumsum(np.concatenate([np.zeros((len(times), 1)), shares[:, keep]], axis=1), axis=1)
    for row, i in enumerate(keep):
        light = sum(emotion_colour(order[i])) > 1.7
        for frame, height in _places(floor[:, row], floor[:, row + 1], half=0.0057 * len(order[i])):
            axes.text(times[frame], height, order[i], ha="center", va="center", fontsize=8.5, fontweight="bold",
                      color=_INK if light else "white")  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_title("What is felt", loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5)


def _places(
    low: Float[np.ndarray, "frame"], high: Float[np.ndarray, "frame"], *, half: float
) -> list[tuple[int, float]]:
    """Frames and heights where a word fits into the band between two curves; `half` its half width, as a share."""
    frames = len(low)
    reach = max(1, round(half * frames))
    window = 2 * reach + 1
    roof, ground = (
        minimum_filter1d(high, window, mode="nearest"),
        maximum_filter1d(low, window, mode="nearest"),
    )
    room = roof - ground
    edge = reach + round(0.012 * frames)
    room[:edge] = room[frames - edge :] = 0.0
    found: list[tuple[int, float]] = []
    fits = np.flatnonzero(room > 0.09)
    for stretch in np.split(fits, np.flatnonzero(np.diff(fits) > 1) + 1) if len(fits) else []:
        best = stretch[room[stretch] >= room[stretch].max() - 0.01]
        frame = int(best[len(best) // 2])
        found.append((frame, float(roof[frame] + ground[frame]) / 2))
    return found


def _draw_curves(axes: Axes, times: Float[np.ndarray, "frame"], batch: EmotionBatch) -> None:
    axes.axhline(0, color=_SOFT, linewidth=0.8, zorder=1)
    for column, (name, colour) in enumerate(AXIS_COLOURS.items()):
        axes.plot(times, batch.effective_vad[:, column], color=colour, linewidth=2.2, label=name, zorder=3,
                  solid_capstyle="round")  # fmt: skip
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8.5, handlelength=1.4,
                labelcolor=_INK, borderaxespad=0.1, columnspacing=1.2)  # fmt: skip
    axes.set_title(
        "Valence, arousal, dominance", loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5
    )


def _draw_amount(axes: Axes, times: Float[np.ndarray, "frame"], batch: EmotionBatch) -> None:
    amount = batch.intensity[:, 0]
    axes.fill_between(times, amount, color="#23262d", alpha=0.13, linewidth=0)
    axes.plot(times, amount, color=_INK, linewidth=1.8)
    top = 1.08 if amount.max() <= 1.001 else 2.1
    if top > 2:
        axes.fill_between(
            times, 1, amount, where=(amount > 1).tolist(), color="#dc4b40", alpha=0.35, linewidth=0
        )
        axes.axhline(1, color="#dc4b40", linewidth=0.8, linestyle=(0, (4, 3)))
        axes.text(times[-1] * 0.995, 1.06, "overdrive", ha="right", va="bottom", fontsize=8, color="#dc4b40")
    axes.set_ylim(0, top)
    axes.set_yticks([0, 0.5, 1] if top < 2 else [0, 1, 2])
    axes.set_title("Intensity", loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5)
    axes.set_xlabel("seconds", fontsize=9, color=_SOFT)


def _dress(axes: Axes, track: EmotionTrack, stop: float, *, last: bool) -> None:
    axes.set_xlim(0, stop)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=_GRID, linewidth=0.7)
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0, labelbottom=last)
    for side in axes.spines.values():
        side.set_color(_GRID)
    if len(track.keyframes) <= _MAX_KEYS_SHOWN:
        for key in track.keyframes:
            if key.time <= stop:
                axes.axvline(key.time, color=_INK, linewidth=0.7, alpha=0.35, linestyle=(0, (2, 2)), zorder=2)
    for pulse in track.pulses:
        axes.axvspan(
            pulse.time - pulse.seconds / 2, pulse.time + pulse.seconds / 2, color=_INK, alpha=0.06, zorder=0
        )


def _draw_circumplex(
    axes: Axes, track: EmotionTrack, times: Float[np.ndarray, "frame"], batch: EmotionBatch, stop: float
) -> None:
    _paint_disc(axes)
    ink = [withStroke(linewidth=2.6, foreground="white")]
    for name in (*_FACE_LABELS, *_MORE_LABELS):
        v, a, _ = LEXICON[name].vad
        main = name in _FACE_LABELS
        axes.plot(v, a, "o", color=emotion_colour(name), markersize=6 if main else 4, zorder=3, markeredgecolor="white",
                  markeredgewidth=0.8)  # fmt: skip
        side = _BESIDE.get(name)
        at = (v, a - 0.04) if side is None else (v + (0.04 if side == "left" else -0.04), a)
        axes.text(*at, name, fontsize=8.5 if main else 7.5, color=_INK if main else _SOFT, ha=side or "center",
                  va="top" if side is None else "center", path_effects=ink, zorder=5.5)  # fmt: skip
    points = batch.effective_vad[:, :2].astype(np.float64)
    segments = np.stack([points[:-1], points[1:]], axis=1)
    halo = LineCollection(list(segments), colors="white", linewidths=5.5, zorder=4, capstyle="round")
    line = LineCollection(list(segments), cmap="viridis", linewidths=3.2, zorder=5, capstyle="round")
    line.set_array(times[:-1])
    axes.add_collection(halo)
    axes.add_collection(line)
    if len(track.keyframes) <= _MAX_KEYS_SHOWN:
        _mark_keys(axes, [(k.time, k.emotion) for k in track.keyframes if k.time <= stop])
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    bar = figure.colorbar(line, ax=axes, orientation="horizontal", fraction=0.035, pad=0.075, aspect=42)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    bar.ax.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    bar.set_label("seconds", fontsize=9, color=_SOFT)
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    axes.axis("off")
    axes.set_anchor("N")
    axes.set_title("Path over the circumplex", loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5)


def _paint_disc(axes: Axes) -> None:
    v, a = np.meshgrid(np.linspace(-1.05, 1.05, 240), np.linspace(-1.05, 1.05, 240))
    corner = {(1, 1): "#f4b731", (-1, 1): "#dc4b40", (-1, -1): "#4f83cc", (1, -1): "#57b894"}
    picture = np.ones((*v.shape, 4))
    weight = np.stack([(1 + sv * v).clip(0) * (1 + sa * a).clip(0) for sv, sa in corner])
    picture[..., :3] = np.einsum("kij,kc->ijc", weight / weight.sum(0), [to_rgb(c) for c in corner.values()])
    radius = np.hypot(v, a)
    picture[..., 3] = 0.26 * np.clip(radius, 0, 1) * (radius <= 1.0)
    disc = axes.imshow(
        picture, extent=(-1.05, 1.05, -1.05, 1.05), origin="lower", zorder=0, interpolation="bilinear"
    )
    disc.set_clip_path(Circle((0, 0), 1.0, transform=axes.transData))
    for radius in (1 / 3, 2 / 3, 1.0):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="#c9cdd4", linewidth=0.8, zorder=1))
    axes.plot([-1, 1], [0, 0], color="#c9cdd4", linewidth=0.8, zorder=1)
    axes.plot([0, 0], [-1, 1], color="#c9cdd4", linewidth=0.8, zorder=1)
    words = (
        (1.035, 0, "pleasant", -90), (-1.035, 0, "unpleasant", 90), (0, 1.035, "aroused", 0), (0, -1.035, "calm", 0),
    )  # fmt: skip
    for x, y, word, turn in words:
        axes.text(x, y, word, rotation=turn, ha="center", va="center", fontsize=9, color=_SOFT)


def _mark_keys(axes: Axes, keys: list[tuple[float, Emotion]]) -> None:
    ink = [withStroke(linewidth=3, foreground="white")]
    taken: list[tuple[float, float]] = []
    for number, (_, emotion) in enumerate(keys, start=1):
        v, a = (float(axis) for axis in emotion.effective_vad()[:2])
        again = sum(math.hypot(v - x, a - y) < 0.06 for x, y in taken)
        taken.append((v, a))
        axes.plot(
            v, a, "o", markersize=10.5, color="white", markeredgecolor=_INK, markeredgewidth=1.6, zorder=6
        )
        # A keyframe that returns to a place writes its number beside the first.
        where = (v, a) if again == 0 else (v + 0.075 + 0.06 * (again - 1), a + 0.055)
        axes.text(*where, str(number), ha="center", va="center", fontsize=7.5, fontweight="bold", color=_INK,
                  zorder=7, path_effects=ink if again else None)  # fmt: skip
