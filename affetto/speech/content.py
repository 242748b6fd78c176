"""What is being said, read off any voice: phone posteriors, lip closure, loudness and speech activity at 50 Hz."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from affetto.runtime.errors import UsageError
from affetto.speech.phones import (
    PHONE_INDEX,
    PHONES,
    SILENCE,
    TimedPhone,
    closure_windows,
    phone_frames,
    window_frames,
)

CONTENT_FPS = 50.0
RATE = 16_000
_LOUD_RANGE_DB = 40.0


@dataclass(frozen=True, kw_only=True)
class SpeechContent:
    """The sound side of lip motion, one row for each frame; frame t speaks of time t / fps."""

    fps: float
    phones: Float[np.ndarray, "frame phone"]  # probabilities over PHONES, silence included
    closure: Float[np.ndarray, "frame"]  # probability that both lips touch
    loudness: Float[np.ndarray, "frame"]  # 0..1, relative to the clip's loud parts
    speaking: Float[np.ndarray, "frame"]  # 0..1

    def __post_init__(self) -> None:
        frames = len(self.phones)
        if self.phones.shape[1:] != (len(PHONES),):
            raise UsageError(f"phones need {len(PHONES)} columns, got shape {self.phones.shape}")
        if any(curve.shape != (frames,) for curve in (self.closure, self.loudness, self.speaking)):
            raise UsageError(f"closure, loudness and speaking need {frames} frames, as phones have")

    def __len__(self) -> int:
        return len(self.phones)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self.fps

    def sliced(self, start: int, stop: int) -> "SpeechContent":
        """Frames `start` to `stop` as a content of its own."""
        part = slice(start, stop)
        return SpeechContent(
            fps=self.fps,
            phones=self.phones[part],
            closure=self.closure[part],
            loudness=self.loudness[part],
            speaking=self.speaking[part],
        )

    @classmethod
    def joined(cls, pieces: "Sequence[SpeechContent]") -> "SpeechContent":
        """Consecutive pieces, at least one, as a whole."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(
            fps=pieces[0].fps,
            phones=np.concatenate([piece.phones for piece in pieces]),
            closure=np.concatenate([piece.closure for piece in pieces]),
            loudness=np.concatenate([piece.loudness for piece in pieces]),
            speaking=np.concatenate([piece.speaking for piece in pieces]),
        )

    @classmethod
    def from_phones(
        cls, phones: Sequence[TimedPhone], seconds: float, loudness: Float[np.ndarray, "frame"] | None = None
    ) -> "SpeechContent":
        """What a perfect reader would give for phones whose times are known; loudness 1 while speaking unless given."""
        frames = frame_count(seconds)
        indices = phone_frames(phones, frames, CONTENT_FPS).astype(np.int64)
        speaking = (indices != PHONE_INDEX[SILENCE]).astype(np.float32)
        closure = window_frames(closure_windows(phones), frames, CONTENT_FPS)
        heard = speaking if loudness is None else np.asarray(loudness, np.float32)
        posteriors = np.eye(len(PHONES), dtype=np.float32)[indices]
        return cls(fps=CONTENT_FPS, phones=posteriors, closure=closure, loudness=heard, speaking=speaking)


def frame_count(seconds: float) -> int:
    """Frames at 50 Hz that cover `seconds`, the last one possibly in part."""
    return max(int(np.ceil(seconds * CONTENT_FPS - 1e-6)), 0)


def loudness_curve(
    samples: Float[np.ndarray, "sample"], *, level: float | None = None
) -> Float[np.ndarray, "frame"]:
    """Loudness at 50 Hz of 16 kHz samples: 1 at an RMS of `level` (else the clip's 95th percentile), 0 from 40 dB below."""
    hop = int(RATE / CONTENT_FPS)
    frames = frame_count(len(samples) / RATE)
    power = np.convolve(np.square(samples, dtype=np.float64), np.ones(2 * hop) / (2 * hop), mode="same")
    decibel = 10.0 * np.log10(power[::hop][:frames] + 1e-12)
    if frames == 0 or decibel.max() < -90.0:
        return np.zeros(frames, np.float32)
    loud = np.percentile(decibel, 95) if level is None else 20.0 * np.log10(max(level, 1e-5))
    return np.clip((decibel - loud) / _LOUD_RANGE_DB + 1.0, 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ClosureRule:
    """When lips obey the closure probability: shut from `shut`, open again below `open`; times in seconds.

    `shut` is the highest level at which 95 % of the bilabials of the validation speech are met: a missed closure is
    seen at once, one too many on an n hardly.
    """

    shut: float = 0.15
    open: float = 0.10
    shortest_s: float = 0.04
    longest_gap_s: float = 0.02


def closure_events(content: SpeechContent, rule: ClosureRule | None = None) -> Bool[np.ndarray, "frame"]:
    """Whether the lips must be shut at each frame: hysteresis, brief openings filled, brief closures widened."""
    rule = rule or ClosureRule()
    shut = hysteresis(content.closure, rule.shut, rule.open)
    for start, stop in _runs(~shut):
        if start > 0 and stop < len(shut) and stop - start <= round(rule.longest_gap_s * content.fps):
            shut[start:stop] = True
    shortest = max(round(rule.shortest_s * content.fps), 1)
    for start, stop in _runs(shut):
        if stop - start < shortest:
            missing = shortest - (stop - start)
            # The frame at the more probable side joins first.
            left, right = start, stop
            for _ in range(missing):
                before = content.closure[left - 1] if left > 0 else -1.0
                after = content.closure[right] if right < len(shut) else -1.0
                left, right = (left - 1, right) if before > after else (left, right + 1)
            shut[max(left, 0) : right] = True
    return shut


def hysteresis(curve: Float[np.ndarray, "frame"], high: float, low: float) -> Bool[np.ndarray, "frame"]:
    """True wherever the curve stays above `low` around a place where it reaches `high`."""
    out = np.zeros(len(curve), bool)
    for start, stop in _runs(curve > low):
        out[start:stop] = bool(np.any(curve[start:stop] >= high))
    return out


def _runs(flags: Bool[np.ndarray, "frame"]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
