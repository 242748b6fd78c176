"""`MotionGenerator`: speech and an emotion in, a performance for a portrait out, in windows that know how the last one ended."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from affetto.acting.adapter import FaceEmotion, face_emotion
from affetto.acting.closure import LipGap, close_lips
from affetto.acting.expression import LOWER_FACE
from affetto.acting.lip_gap import LinearGap
from affetto.acting.pieces import join, resampled_pieces
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.portrait.motion_limits import Course, Limits, LinearLimits, limits_of
from affetto.generators.portrait.motion_sampling import FlowSampler, Guidance, WindowSampler
from affetto.generators.portrait.motion_space import (
    CHANNELS,
    FPS,
    MARGIN,
    PREFIX,
    ROWS_PER_FRAME,
    SHAPES,
    WINDOW,
    Amounts,
    drawn_style,
    to_curves,
)
from affetto.generators.portrait.motion_weights import WEIGHTS, load_net
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio, load_audio, stream_audio
from affetto.media.previews import curves_preview
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.speech.clips import content_rows
from affetto.speech.content import CONTENT_FPS, RATE, SpeechContent
from affetto.speech.reader import ContentReader
from affetto.speech.sound import blocks_of, check_length, check_speech
from affetto.weights.store import weight_path

_BLOCK_S = 5.0
_FRESH = WINDOW - PREFIX  # frames that a window adds
_BEFORE = 2 * MARGIN + 16  # rows of speech before a window that blinks and emotions depend on
_LEAD = _BEFORE // ROWS_PER_FRAME  # the same in frames
_TRAVEL = 1.15  # estimates of what is heard unsurely lie near the mean; this gives lips back the travel of the rules
_EMOTION_MARGIN = 40  # rows: emotions farther away than 0.8 s do not matter

Speech = Audio | str | Path
Feeling = str | Emotion | EmotionTrack | None


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """How a performance is drawn and played; the defaults are an ordinary one at 25 frames a second."""

    fps: float = FPS
    seed: int = 0
    guidance: Guidance = field(default_factory=Guidance)
    amounts: Amounts = field(default_factory=Amounts)

    def __post_init__(self) -> None:
        if not 10 <= self.fps <= 120:
            raise UsageError(f"fps {self.fps:g} is out of range: use 10 to 120, for example 24, 25, 30 or 60")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative: use 0 or more")


class MotionGenerator:
    """Draws performances: the same speech and emotion with another seed is another performer, equally in sync."""

    def __init__(
        self, reader: ContentReader, sampler: WindowSampler, head: LipGap, *, device: torch.device
    ) -> None:
        self._reader = reader
        self._sampler = sampler
        self._head = head
        self._gap = LinearGap.of(head)
        self._device_gap = LinearGap.of(head).to(device)
        self.device = device

    @classmethod
    def from_pretrained(
        cls, name: str = "embedded", *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
    ) -> "MotionGenerator":
        """Load the `embedded` weights, or a safetensors file that `affetto train portrait-motion` wrote.

        On CUDA the networks run under autocast in `dtype` (bf16 unless told otherwise).
        """
        if name == "embedded":
            path = weight_path(WEIGHTS)
        elif Path(name).suffix == ".safetensors":
            path = Path(name)
        else:
            raise MissingResourceError(
                f"no portrait motion {name!r} here: use 'embedded' or a .safetensors file"
            )
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        head = HeadModel.load()
        net, _ = load_net(path)
        return cls(
            ContentReader.from_pretrained("embedded", device=where, dtype=precision),
            FlowSampler.of(net, LinearGap.of(head), device=where, dtype=precision),
            head,
            device=where,
        )

    def __call__(
        self,
        speech: Speech,
        emotion: Feeling = None,
        *,
        fps: float = FPS,
        seed: int = 0,
        audio_guidance: float = 2.0,
        emotion_guidance: float = 1.5,
        steps: int = 8,
        articulation: float = 1.1,
        head_motion: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
        callback: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FaceCurves:
        """The performance of `speech` with `emotion` (text form, value or track; None is neutral), its frames at `fps`.

        Guidance 1 is what the data show; more follows speech or emotion harder. The same seed gives the same curves on
        the same machine. Raises InvalidInputError for sound that is too short or silent.
        """
        options = MotionOptions(
            fps=fps,
            seed=seed,
            guidance=Guidance(audio=audio_guidance, emotion=emotion_guidance, steps=steps),
            amounts=Amounts(articulation=articulation, head_motion=head_motion, blinks=blinks, gaze=gaze),
        )
        sound = speech if isinstance(speech, Audio) else load_audio(speech)
        total = round(sound.seconds * fps)
        pieces, done = [], 0
        for _, piece in self.stream(sound, emotion, options=options, cancel=cancel):
            pieces.append(piece)
            done += len(piece)
            if callback is not None:
                look = partial(curves_preview, piece)
                callback(ProgressEvent(stage="motion", done=min(done, total), total=total, preview=look))
        return join(pieces, fps)

    def stream(
        self,
        speech: Speech,
        emotion: Feeling = None,
        *,
        options: MotionOptions | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[tuple[float, FaceCurves]]:
        """Yield (start in seconds, curves) piece by piece, in constant memory; together they are what a call gives.

        A file is read as it is needed; the pieces end after round(seconds * fps) frames.
        """
        options = options or MotionOptions()
        heard = _Heard()
        if isinstance(speech, Audio):
            check_speech(speech)
            blocks = heard.watch(blocks_of(speech, _BLOCK_S))
        else:
            blocks = heard.watch(block for _, block in stream_audio(speech, _BLOCK_S, RATE))
        sent = 0
        for piece in self.perform(self._reader.stream(blocks), as_track(emotion), options, cancel=cancel):
            spare = sent + len(piece) - round(heard.seconds * options.fps) if heard.ended else 0
            kept = piece.sliced(0, len(piece) - max(spare, 0))
            yield sent / options.fps, kept
            sent += len(kept)

    def perform(
        self,
        contents: Iterable[SpeechContent],
        track: EmotionTrack,
        options: MotionOptions,
        *,
        cancel: CancelToken | None = None,
    ) -> Iterator[FaceCurves]:
        """The performance of consecutive pieces of speech content (any length, 50 Hz), piece by piece at `options.fps`."""
        rows = self._rows(contents, track, options, cancel)
        return resampled_pieces(rows, FPS, options.fps)

    def _rows(
        self,
        contents: Iterable[SpeechContent],
        track: EmotionTrack,
        options: MotionOptions,
        cancel: CancelToken | None,
    ) -> Iterator[Float[np.ndarray, "frame 59"]]:
        style = torch.from_numpy(drawn_style(options.seed))[None].to(self.device)
        end = torch.zeros(
            1, WINDOW, CHANNELS, device=self.device
        )  # its first frames: how the last window ended
        for stretch in _stretches(contents):
            if cancel is not None:
                cancel.check()
            course, limits = self._window(stretch, track, style, end, options)
            fresh = slice(PREFIX if stretch.index else 0, min(WINDOW, stretch.frames))
            end[0, :PREFIX] = torch.from_numpy(course[_FRESH:]).to(self.device)
            part = limits.sliced(_LEAD + fresh.start, _LEAD + fresh.stop)
            motion = course[fresh].copy()
            motion[:, SHAPES] = self._mouthed(course[:, SHAPES], limits, fresh, options.amounts.articulation)
            curves = to_curves(motion, part.rest_head, part.rest_gaze, options.amounts)
            yield np.concatenate(
                [curves.weights, curves.head, curves.eyes.reshape(len(curves), 4)], axis=1, dtype=np.float32
            )

    def _window(
        self,
        stretch: "_Stretch",
        track: EmotionTrack,
        style: Float[Tensor, "1 11"],
        end: Float[Tensor, "1 64 58"],
        options: MotionOptions,
    ) -> tuple[Float[np.ndarray, "64 58"], Limits]:
        """The window as drawn, and the limits of its frames and of those about it."""
        emotion = stretch.emotion(track, options.seed)
        limits = limits_of(
            stretch.content, emotion, self._gap,
            start_s=stretch.first / CONTENT_FPS, seed=options.seed, blinks=options.amounts.blinks,
        )  # fmt: skip
        inside = limits.sliced(_LEAD, _LEAD + WINDOW)
        is_known = torch.zeros(1, WINDOW, dtype=torch.bool, device=self.device)
        is_known[:, :PREFIX] = stretch.index > 0
        heard = content_rows(stretch.content)[stretch.start - stretch.first - MARGIN :]
        features = emotion.features()[stretch.start - stretch.first :][: WINDOW * ROWS_PER_FRAME]
        limited = LinearLimits(inside, self._device_gap, self.device)
        course = Course(end[:, : PREFIX if stretch.index else 0].clone())
        white = torch.randn(1, WINDOW, CHANNELS, generator=_chance(options.seed, stretch.index))
        with torch.inference_mode():
            motion = self._sampler(
                torch.from_numpy(heard)[None].to(self.device),
                torch.from_numpy(features[::ROWS_PER_FRAME].copy())[None].to(self.device),
                style, end, is_known, white.to(self.device), options.guidance,
                nn.Sequential(course, limited),
            )[0].float().cpu().numpy()  # fmt: skip
        return motion, limits

    def _mouthed(
        self, shapes: Float[np.ndarray, "64 52"], limits: Limits, fresh: slice, articulation: float
    ) -> Float[np.ndarray, "frame 52"]:
        """The fresh frames with the lips' travel as asked for, and truly shut where they must be.

        What is shut just outside the window eases its edges.
        """
        talking = 1.0 - limits.sliced(_LEAD, _LEAD + WINDOW).quiet
        gain = 1.0 + (_TRAVEL * articulation - 1.0) * talking[:, None]
        wide = np.clip(np.where(LOWER_FACE, shapes * gain, shapes), 0.0, 1.0).astype(np.float32)[fresh]
        begin = _LEAD + fresh.start
        shut = np.concatenate([np.zeros(1, bool), limits.shut])[begin : begin + len(wide) + 2]
        padded = np.concatenate([wide[:1], wide, wide[-1:]])
        return close_lips(padded, shut.astype(np.float32), self._head, fps=FPS)[1:-1]


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A window's speech with the margins that matter, in rows at 50 Hz of the whole; silence lies beyond its ends."""

    content: SpeechContent
    first: int  # the content's first row
    start: int  # the window's first row
    index: int
    frames: int  # of the window that lie within the speech

    def emotion(self, track: EmotionTrack, seed: int) -> FaceEmotion:
        """The emotion of every row of the content."""
        spare = min(_EMOTION_MARGIN, max(self.first, 0))
        times = np.maximum(np.arange(self.first - spare, self.first + len(self.content) + _EMOTION_MARGIN), 0)
        start_s = (self.first - spare) / CONTENT_FPS
        whole = face_emotion(track.sample(times / CONTENT_FPS), CONTENT_FPS, seed=seed, start_s=start_s)
        kept = slice(spare, spare + len(self.content))
        return FaceEmotion(anchors=whole.anchors[kept], vad=whole.vad[kept])


def _stretches(contents: Iterable[SpeechContent]) -> Iterator[_Stretch]:
    """Windows that overlap by the frames known to the next, as soon as the speech they hear has come."""
    span, step = WINDOW * ROWS_PER_FRAME, _FRESH * ROWS_PER_FRAME
    held, first = _silence(_BEFORE), -_BEFORE
    last = index = 0

    def cut() -> _Stretch:
        start = index * step
        begin = start - _BEFORE - first
        content = held.sliced(begin, begin + _BEFORE + span + MARGIN)
        inside = -(-(min(last, start + span) - start) // ROWS_PER_FRAME)
        return _Stretch(content=content, first=start - _BEFORE, start=start, index=index, frames=inside)

    def needed() -> int:
        return index * step + span + MARGIN

    for piece in contents:
        held = SpeechContent.joined([held, piece])
        last += len(piece)
        while last >= needed():
            yield cut()
            index += 1
            forget = index * step - _BEFORE - first
            held, first = held.sliced(forget, len(held)), first + forget
    known = PREFIX * ROWS_PER_FRAME if index else 0
    held = SpeechContent.joined([held, _silence(span + step + MARGIN)])
    while last > index * step + known:
        yield cut()
        index += 1
        known = PREFIX * ROWS_PER_FRAME


def _silence(rows: int) -> SpeechContent:
    return SpeechContent.from_phones((), rows / CONTENT_FPS)


def _chance(seed: int, index: int) -> torch.Generator:
    drawn = np.random.default_rng([seed, 0x3A, index]).integers(1 << 62)
    return torch.Generator().manual_seed(int(drawn))


class _Heard:
    """Counts the sound that goes by, because the content of it is rounded up to whole rows."""

    def __init__(self) -> None:
        self.seconds, self.ended = 0.0, False

    def watch(self, blocks: Iterable[Float[np.ndarray, "_"]]) -> Iterator[Float[np.ndarray, "_"]]:
        samples = 0
        for block in blocks:
            samples += len(block)
            self.seconds = samples / RATE
            yield block
        check_length(self.seconds, "the sound")
        self.ended = True
