"""`ContentReader`: waveforms in, speech content out, window by window."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from affetto.media.mel import log_mel
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.memory import shorter, together
from affetto.runtime.progress import CancelToken
from affetto.speech.content import CONTENT_FPS, RATE, SpeechContent, frame_count, loudness_curve
from affetto.speech.content_net import LOUD_RMS, MEL, ContentConfig, ContentEncoder
from affetto.speech.phones import PHONES
from affetto.weights.store import read_arrays
from affetto.weights.tensors import load_tensors


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How long audio is cut: each window of `core_s` hears `left_s` before and `right_s` after it."""

    core_s: float = 8.0
    left_s: float = 1.0
    right_s: float = 1.0

    def __post_init__(self) -> None:
        if self.core_s <= 0 or self.left_s < 0 or self.right_s < 0:
            raise UsageError(f"a window needs a positive core and no negative context, got {self}")
        if any(abs(part * CONTENT_FPS - round(part * CONTENT_FPS)) > 1e-6 for part in self.parts):
            raise UsageError(f"windows are whole multiples of 20 ms, got {self}")

    @property
    def parts(self) -> tuple[float, float, float]:
        """Left context, core and right context in seconds."""
        return self.left_s, self.core_s, self.right_s

    @property
    def samples(self) -> tuple[int, int, int]:
        """Left context, core and right context in samples."""
        left, core, right = (round(part * RATE) for part in self.parts)
        return left, core, right


LIVE_PLAN = WindowPlan(core_s=0.4, left_s=4.0, right_s=0.4)
"""For live sound: results arrive 0.4 to 0.8 s after it."""


def usual_plan() -> WindowPlan:
    """Eight seconds at a time, less where memory is short."""
    return WindowPlan(core_s=shorter(WindowPlan.core_s))


class ContentReader:
    """Reads speech content off waveforms with a trained `ContentEncoder`, in windows, so that memory stays flat."""

    def __init__(
        self,
        encoder: ContentEncoder,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        batch: int = 4,
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.device, self.dtype, self.batch = device, dtype, batch

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> "ContentReader":
        """A reader with the embedded weights, or with those of a safetensors file."""
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        if str(source) == "embedded":
            tensors, metadata = load_tensors("face-content")
        else:
            arrays, metadata = read_arrays(Path(source))
            tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
        encoder = ContentEncoder(ContentConfig.from_metadata(metadata))
        if metadata.get("phone_names", " ".join(PHONES)).split() != list(PHONES):
            raise UsageError(
                f"{source}: these weights know other phones than this program: use matching ones"
            )
        encoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return cls(encoder, device=where, dtype=precision, batch=16 if where.type == "cuda" else 2)

    def __call__(
        self,
        waveform: Float[np.ndarray, "*channel sample"],
        *,
        plan: WindowPlan | None = None,
        cancel: CancelToken | None = None,
    ) -> SpeechContent:
        """The content of 16 kHz mono samples, ceil(50 * seconds) frames; silence gives silence."""
        samples = check_waveform(waveform)
        plan, batch = plan or usual_plan(), together(self.batch)
        level = loud_level(samples)
        frames = frame_count(len(samples) / RATE)
        parts: list[SpeechPiece] = []
        starts = list(range(0, max(len(samples), 1), plan.samples[1]))
        for first in range(0, len(starts), batch):
            if cancel is not None:
                cancel.check()
            windows = [_cut(samples, start, plan) for start in starts[first : first + batch]]
            parts.extend(self._read(windows, [max(loud_level(w.samples), 0.1 * level) for w in windows]))
        phones, closure, speaking = (
            np.concatenate([getattr(part, name) for part in parts])[:frames] for name in _HEADS
        )
        return SpeechContent(
            fps=CONTENT_FPS,
            phones=phones,
            closure=closure,
            loudness=loudness_curve(samples),
            speaking=speaking,
        )

    def stream(
        self, blocks: Iterable[Float[np.ndarray, "_"]], *, plan: WindowPlan | None = None
    ) -> Iterator[SpeechContent]:
        """Content of endless 16 kHz sound as its blocks (of any length) arrive, in order and without gaps.

        Looks ahead `plan.right_s` and holds a few windows. Loudness is relative to what was heard, not to what comes.
        `LIVE_PLAN` answers within a second.
        """
        plan = plan or usual_plan()
        left, core, right = plan.samples
        at_once = together(self.batch) if plan.core_s >= 4.0 else 1
        held = np.zeros(0, np.float32)
        origin = done = 0  # the sample held[0] stands for, and the first sample not yet cut into a window
        level = 0.0
        waiting: list[_Window] = []
        for block in chain(blocks, (None,)):
            if block is not None:
                held = np.concatenate([held, check_waveform(block)])
            while origin + len(held) - done >= core + right or (block is None and origin + len(held) > done):
                waiting.append(_cut(held, done - origin, plan))
                done += core
                drop = max(done - left - origin, 0)
                held, origin = held[drop:], origin + drop
                if len(waiting) >= at_once:
                    level = yield from self._report(waiting, level)
                    waiting = []
        if waiting:
            yield from self._report(waiting, level)

    def _report(self, windows: "Sequence[_Window]", level: float) -> Generator[SpeechContent, None, float]:
        levels = []
        for window in windows:
            level = max(loud_level(window.samples), 0.5 * level)
            levels.append(level)
        for window, loud, read in zip(windows, levels, self._read(windows, levels), strict=True):
            loudness = loudness_curve(window.samples, level=loud)[
                window.skip : window.skip + len(read.closure)
            ]
            yield SpeechContent(
                fps=CONTENT_FPS,
                phones=read.phones,
                closure=read.closure,
                loudness=loudness,
                speaking=read.speaking,
            )
        return level

    def _read(self, windows: "Sequence[_Window]", levels: Sequence[float]) -> "list[SpeechPiece]":
        hop = MEL.hop
        longest = -(-max(len(window.samples) for window in windows) // (2 * hop)) * 2 * hop
        waves = np.zeros((len(windows), longest), np.float32)
        for row, (window, level) in enumerate(zip(windows, levels, strict=True)):
            waves[row, : len(window.samples)] = window.samples * (LOUD_RMS / max(level, 1e-5))
        counts = torch.tensor([-(-len(window.samples) // (2 * hop)) * 2 for window in windows])
        with torch.inference_mode(), autocast(self.device, self.dtype):
            mels = log_mel(torch.from_numpy(waves).to(self.device), MEL)
            present = torch.arange(mels.shape[-1])[None, :] < counts[:, None]
            _, phones, closure, speaking = self.encoder(mels, present.to(self.device))
            named = torch.softmax(phones.float(), dim=-1).cpu().numpy()
            shut = torch.sigmoid(closure.float()).cpu().numpy()
            talking = torch.sigmoid(speaking.float()).cpu().numpy()
        out = []
        for row, window in enumerate(windows):
            keep = slice(window.skip, window.skip + window.frames)
            out.append(
                SpeechPiece(phones=named[row, keep], closure=shut[row, keep], speaking=talking[row, keep])
            )
        return out


_HEADS = ("phones", "closure", "speaking")


@dataclass(frozen=True, kw_only=True)
class SpeechPiece:
    """What the network says about one window, without loudness."""

    phones: Float[np.ndarray, "frame phone"]
    closure: Float[np.ndarray, "frame"]
    speaking: Float[np.ndarray, "frame"]


@dataclass(frozen=True, kw_only=True)
class _Window:
    samples: Float[np.ndarray, "sample"]
    skip: int  # frames of left context
    frames: int  # frames of the core


def _cut(samples: Float[np.ndarray, "sample"], start: int, plan: WindowPlan) -> _Window:
    left, core, right = plan.samples
    first = max(start - left, 0)
    hop = int(RATE / CONTENT_FPS)
    frames = min(core // hop, frame_count((len(samples) - start) / RATE))
    return _Window(samples=samples[first : start + core + right], skip=(start - first) // hop, frames=frames)


def check_waveform(waveform: Float[np.ndarray, "*channel sample"]) -> Float[np.ndarray, "sample"]:
    """The samples as float32; raises `InvalidInputError` for several channels or numbers that are none."""
    samples = np.asarray(waveform, np.float32)
    if samples.ndim != 1:
        raise InvalidInputError(
            f"speech content needs mono samples, got shape {samples.shape}: mix the channels first"
        )
    if not np.isfinite(samples).all():
        raise InvalidInputError("the audio holds NaN or infinite samples: repair the recording")
    return samples


def loud_level(samples: Float[np.ndarray, "sample"]) -> float:
    """RMS of the loud 20 ms frames (95th percentile); 0 for silence."""
    hop = 320
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop) if len(samples) >= hop else samples[None]
    if frames.size == 0:
        return 0.0
    return float(np.percentile(np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)), 95))
