"""A picture of a conversion: the recording above, what became of it below, and how both sound to the speech encoder."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from affetto.conditioning.encoders.speech import SpeechEncoder
from affetto.conditioning.track import EmotionTrack
from affetto.generators.voice.controls import CONTROL_FPS, VoiceControls, analyse
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio
from affetto.media.mel import MelSpec, log_mel
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

_INK, _SOFT, _GRID, _PAPER = "#23262d", "#6d7480", "#e6e8ec", "#ffffff"
_BEFORE, _AFTER = "#8a93a3", "#dc4b40"
_SPEC = MelSpec(
    rate=22_050, window=1024, hop=256, fft=1024, bands=96, low_hz=50.0, high_hz=10_000.0, floor=1e-9
)
_SHOWN_SECONDS = 20.0  # of a longer recording the first ones are drawn
_TICKS_HZ = (100.0, 300.0, 1_000.0, 3_000.0, 8_000.0)


def draw_report(
    before: Audio,
    after: Audio,
    path: str | Path,
    *,
    track: EmotionTrack | None = None,
    strength: float = 1.0,
    time_map: TimeMap | None = None,
    title: str = "",
    overwrite: bool = True,
) -> Path:
    """Write a PNG that compares a recording with its conversion; the same sounds always give the same bytes.

    Waveform and spectrogram of each, pitch in semitones and loudness of both (the converted one laid over the source's
    time by `time_map`), the strength asked for, and the emotion that the speech encoder reads in both. At most the
    first 20 seconds are drawn.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a report is written as .png")
    clips = [audio.sliced(0.0, _SHOWN_SECONDS) for audio in (before, after)]
    controls = [analyse(clip.mono(), clip.rate) for clip in clips]
    figure = Figure(figsize=(13.5, 9.6), dpi=110, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        4, 2, height_ratios=(0.55, 1.6, 1.15, 1.15), left=0.06, right=0.985, top=0.9, bottom=0.06, hspace=0.3,
        wspace=0.12,
    )  # fmt: skip
    span = max(clip.seconds for clip in clips)
    pictures = [_decibels(clip) for clip in clips]
    top = max(float(picture.max(initial=-60.0)) for picture in pictures)
    for column, (name, colour) in enumerate((("Before", _BEFORE), ("After", _AFTER))):
        label = f"{name}: {clips[column].seconds:.2f} s, {_level(clips[column].mono()):.1f} dB"
        _draw_wave(figure.add_subplot(grid[0, column]), clips[column], label, colour, span)
        axes = figure.add_subplot(grid[1, column])
        _draw_spectrum(axes, pictures[column], clips[column].seconds, top)
        _dress(axes, "", span)
        axes.grid(visible=False)
    melody, loudness = figure.add_subplot(grid[2, 0]), figure.add_subplot(grid[3, 0])
    _draw_controls(melody, loudness, controls, time_map)
    _draw_strength(figure.add_subplot(grid[2, 1]), track, strength, clips[0].seconds)
    _draw_reading(figure.add_subplot(grid[3, 1]), clips)
    asked = str(track) if track is not None else ""
    figure.text(0.06, 0.955, title or f"Voice: {asked[:110]}", color=_INK, fontsize=14, fontweight="bold")
    with atomic_path(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, metadata={"Software": None}, facecolor=_PAPER)
    return path


def _draw_wave(axes: Axes, clip: Audio, title: str, colour: str, span: float) -> None:
    samples = clip.mono()
    size = max(1, len(samples) // 1500)
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    times = np.arange(len(blocks)) * size / clip.rate
    axes.fill_between(times, blocks.min(axis=1), blocks.max(axis=1), color=colour, linewidth=0)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    _dress(axes, title, span)
    axes.tick_params(labelbottom=False)


def _decibels(clip: Audio) -> Float[np.ndarray, "band frame"]:
    samples = np.ascontiguousarray(clip.resampled(_SPEC.rate).mono())
    return 10.0 / np.log(10.0) * log_mel(torch.from_numpy(samples), _SPEC).numpy()


def _draw_spectrum(axes: Axes, decibels: Float[np.ndarray, "band frame"], seconds: float, top: float) -> None:
    axes.imshow(
        decibels, origin="lower", aspect="auto", cmap="magma", vmin=top - 65, vmax=top, interpolation="nearest",
        extent=(0.0, seconds, 0.0, _SPEC.bands),
    )  # fmt: skip
    axes.set_facecolor("black")
    axes.set_yticks([_band_of(hertz) for hertz in _TICKS_HZ], [f"{hertz:.0f} Hz" for hertz in _TICKS_HZ])


def _band_of(hertz: float) -> float:
    low, high, here = 2595.0 * np.log10(1.0 + np.array([_SPEC.low_hz, _SPEC.high_hz, hertz]) / 700.0)
    return float((here - low) / (high - low) * _SPEC.bands)


def _level(samples: Float[np.ndarray, "sample"]) -> float:
    return float(10.0 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-12))


def _draw_controls(
    melody: Axes, loudness: Axes, controls: list[VoiceControls], time_map: TimeMap | None
) -> None:
    parts = zip(controls, ("before", "after"), (_BEFORE, _AFTER), strict=True)
    for part, name, colour in parts:
        times = np.arange(len(part)) / CONTROL_FPS
        if name == "after" and time_map is not None:
            times = time_map.to_source(times)
        tones = 12.0 / np.log(2.0) * (part.log_f0 - np.log(100.0))
        melody.plot(
            times, np.where(part.voiced > 0.5, tones, np.nan), color=colour, linewidth=1.8, label=name
        )
        loudness.plot(times, np.maximum(part.energy, -80.0), color=colour, linewidth=1.3, label=name)
    span = controls[0].seconds
    _dress(melody, "Pitch, semitones above 100 Hz, in the source's time", span)
    _dress(loudness, "Loudness, dB", span)
    melody.legend(frameon=False, fontsize=8.5, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=2)


def _draw_strength(axes: Axes, track: EmotionTrack | None, strength: float, seconds: float) -> None:
    times = np.linspace(0.0, seconds, 400)
    amount = np.zeros(400) if track is None else strength * track.sample(times).intensity[:, 0]
    axes.fill_between(times, amount, color=_AFTER, alpha=0.18, linewidth=0)
    axes.plot(times, amount, color=_AFTER, linewidth=1.8)
    axes.set_ylim(0.0, max(1.08, 1.08 * float(amount.max())))
    _dress(axes, "Strength asked for, in the source's time", seconds)


def _draw_reading(axes: Axes, clips: list[Audio]) -> None:
    encoder = SpeechEncoder.from_pretrained("embedded", device="cpu")
    readings = [encoder.read(clip) for clip in clips]
    names = list(encoder.taxonomy)
    rows = np.arange(len(names))
    for offset, reading, colour, label in zip(
        (-0.19, 0.19), readings, (_BEFORE, _AFTER), ("before", "after"), strict=True
    ):
        vad = ", ".join(f"{value:+.2f}" for value in reading.vad)
        shares = [reading.mixture.get(name, 0.0) for name in names]
        axes.bar(rows + offset, shares, 0.36, color=colour, label=f"{label}: VAD {vad}")
    axes.set_xticks(rows, names, fontsize=8.5)
    axes.set_ylim(0.0, 1.02)
    axes.legend(frameon=False, fontsize=8.5, loc="upper right")
    axes.set_title("What the speech encoder reads", loc="left", fontsize=10, color=_INK, fontweight="bold")
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    for side in axes.spines.values():
        side.set_color(_GRID)


def _dress(axes: Axes, title: str, span: float) -> None:
    axes.set_xlim(0.0, max(span, 0.1))
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=_GRID, linewidth=0.6)
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    for side in axes.spines.values():
        side.set_color(_GRID)
    if title:
        axes.set_title(title, loc="left", fontsize=10, color=_INK, fontweight="bold", pad=5)
