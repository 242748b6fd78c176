"""`FaceAnimator`: speech and an emotion in, an animated 3D face out."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float

from affetto.acting.pieces import join
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.face.motion import MotionModel
from affetto.generators.face.performance import FaceOptions, RuleSpeaker, Speak, perform
from affetto.generators.face.speaker import NetworkSpeaker
from affetto.head.model import HeadModel
from affetto.head.render import open_renderer, render_curves
from affetto.media.animation.curves import FaceCurves
from affetto.media.animation.files import CURVE_SUFFIXES, MESH_SUFFIXES, save_curves
from affetto.media.audio import Audio, load_audio, stream_audio
from affetto.media.previews import curves_preview, picture_preview
from affetto.provenance.manifests import Origin
from affetto.provenance.sealing import marked_video, sealed
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import MissingResourceError, UsageError
from affetto.runtime.memory import together
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.speech.align import align_text
from affetto.speech.content import RATE, SpeechContent
from affetto.speech.phones import TimedPhone
from affetto.speech.reader import ContentReader, WindowPlan
from affetto.speech.sound import blocks_of, check_speech

_BLOCK_S = 5.0
_GPU_WINDOWS = 16

Speech = Audio | str | Path
Feeling = str | Emotion | EmotionTrack | None


@dataclass(frozen=True, kw_only=True)
class FacePlan:
    """All that decides a performance, before anything moves; edit it with `dataclasses.replace`.

    With `phones` (the text-known mode) lips and emotion follow rules; without, the lips follow what `content` says most
    likely, and the network adds the emotion.
    """

    content: SpeechContent
    track: EmotionTrack
    options: FaceOptions
    phones: tuple[TimedPhone, ...] | None = None

    @property
    def seconds(self) -> float:
        """How long the performance will last."""
        return self.content.seconds


@dataclass(frozen=True, kw_only=True)
class FaceAnimation:
    """A finished performance, the sound it belongs to, and the person who gives it."""

    curves: FaceCurves
    audio: Audio | None
    identity: Float[np.ndarray, "mode"] | None = None

    def save(
        self,
        path: str | Path,
        *,
        size: int = 512,
        backend: str = "auto",
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Path:
        """Write what the suffix says: .csv .json .npz curves, .glb .usda mesh and animation, .mp4 video with sound.

        `size` (pixels a side) and `backend` (auto, numba, moderngl) concern video. Raises UsageError for another suffix.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".mp4":
            return self._save_video(
                path, size, backend, overwrite=overwrite, progress=progress, cancel=cancel
            )
        if suffix in MESH_SUFFIXES:
            with sealed(path, self._origin, overwrite=overwrite) as temporary:
                save_curves(temporary, self.curves, mesh=self._person().mesh)
            return path
        if suffix in CURVE_SUFFIXES:
            with sealed(path, self._origin, overwrite=overwrite) as temporary:
                save_curves(temporary, self.curves)
            return path
        known = ", ".join((*CURVE_SUFFIXES, *MESH_SUFFIXES, ".mp4"))
        raise UsageError(f"{path}: no face is written as {suffix or 'a file without suffix'}: use {known}")

    @property
    def _origin(self) -> Origin:
        spoken = None if self.audio is None else self.audio.path
        return Origin(generator="face", ingredients=() if spoken is None else (spoken,))

    def _person(self) -> HeadModel:
        head = HeadModel.load()
        return head if self.identity is None else head.with_identity(self.identity)

    def _save_video(
        self,
        path: Path,
        size: int,
        backend: str,
        *,
        overwrite: bool,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> Path:
        person = self._person()
        renderer = open_renderer(person.mesh.surface, size=(size, size), backend=backend)
        try:
            with marked_video(
                path, (size, size), self.curves.fps, self.audio, self._origin, overwrite=overwrite
            ) as write:
                for index, frame in enumerate(render_curves(person, self.curves, renderer)):
                    if cancel is not None:
                        cancel.check()
                    write(frame)
                    if progress is not None:
                        look = partial(picture_preview, frame)
                        progress(
                            ProgressEvent(
                                stage="render", done=index + 1, total=len(self.curves), preview=look
                            )
                        )
        finally:
            renderer.close()
        return path


class FaceAnimator:
    """Animates a face from speech, after EMOTE (Danecek et al. 2023): a content reader, then motion with emotion."""

    def __init__(
        self, reader: ContentReader, motion: MotionModel, head: HeadModel, *, device: torch.device
    ) -> None:
        self._reader = reader
        self._speak = NetworkSpeaker(motion)
        self._head = head
        self.device = device

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name: Literal["embedded"] = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> "FaceAnimator": ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        **options: Any,
    ) -> Any: ...
    @classmethod
    def from_pretrained(
        cls,
        name: str = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        **options: Any,
    ) -> Any:
        """Load the `embedded` models, or `emote` (the published network, once the user has pulled its weights).

        On CUDA they run under autocast in `dtype` (bf16 unless told otherwise). `options` go to `EmoteAnimator`, which
        is called like this one. Raises MissingResourceError for what is not here.
        """
        if name == "emote":
            module = importlib.import_module("affetto.generators.face.full.emote_animator")
            return module.EmoteAnimator.from_pretrained(device=device, dtype=dtype, **options)
        if name != "embedded" or options:
            raise MissingResourceError(f"no face animator {name!r} here: use 'embedded' or 'emote'")
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        return cls(
            ContentReader.from_pretrained(name, device=where, dtype=precision),
            MotionModel.from_pretrained(name, device=where, dtype=precision),
            HeadModel.load(),
            device=where,
        )

    def __call__(
        self,
        audio: Speech,
        emotion: Feeling = None,
        *,
        fps: float = 30.0,
        text: str | None = None,
        language: str | None = None,
        seed: int = 0,
        articulation: float = 1.1,
        gains: Mapping[str, float] | None = None,
        offsets: Mapping[str, float] | None = None,
        head_motion: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
        identity: Float[np.ndarray, "mode"] | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FaceAnimation:
        """The face that speaks `audio` with `emotion` (text form, value or track; None is neutral).

        `text` and its `language` (en, de ...) give exact lips by rule. The same seed gives the same face on the same
        machine. Raises InvalidInputError for sound that is too short or silent.
        """
        options = FaceOptions(
            fps=fps,
            seed=seed,
            articulation=articulation,
            head_motion=head_motion,
            blinks=blinks,
            gaze=gaze,
            gains=gains or {},
            offsets=offsets or {},
        )
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        plan = self.plan(speech, emotion, text=text, language=language, options=options)
        curves = self.perform(plan, callback_on_step_end=callback_on_step_end, cancel=cancel)
        return FaceAnimation(curves=curves, audio=speech, identity=identity)

    def plan(
        self,
        audio: Speech,
        emotion: Feeling = None,
        *,
        text: str | None = None,
        language: str | None = None,
        options: FaceOptions | None = None,
    ) -> FacePlan:
        """What is said and felt when, to be edited and then given to `perform`."""
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        check_speech(speech)
        mono = speech.resampled(RATE).mono()
        content = self._reader(mono)
        phones = None
        if text is not None:
            phones = tuple(align_text(mono, text, language or "en", self._reader))
        return FacePlan(
            content=content, track=as_track(emotion), options=options or FaceOptions(), phones=phones
        )

    def perform(
        self,
        plan: FacePlan,
        *,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FaceCurves:
        """The curves of a plan."""
        speak = self._speak if plan.phones is None else RuleSpeaker(plan.phones, plan.content)
        content = plan.content
        if plan.phones is not None:
            content = SpeechContent.from_phones(plan.phones, content.seconds, content.loudness)
        pieces = self._pieces([content], speak, plan.track, plan.options)
        frames = round(plan.seconds * plan.options.fps)
        return join(watched(pieces, frames, callback_on_step_end, cancel), plan.options.fps)

    def stream(
        self, audio: Speech, emotion: Feeling = None, *, options: FaceOptions | None = None
    ) -> Iterator[tuple[float, FaceCurves]]:
        """Yield (start in seconds, curves) piece by piece, in constant memory for sound of any length.

        A file is read as it is needed. The pieces differ from what a call gives only in that loudness is judged by
        what has been heard so far.
        """
        options = options or FaceOptions()
        if isinstance(audio, Audio):
            check_speech(audio)
            blocks = blocks_of(audio, _BLOCK_S)
        else:
            blocks = (block for _, block in stream_audio(audio, _BLOCK_S, RATE))
        contents = self._reader.stream(blocks, plan=WindowPlan())
        sent = 0
        for piece in self._pieces(contents, self._speak, as_track(emotion), options):
            yield sent / options.fps, piece
            sent += len(piece)

    def _pieces(
        self, contents: Iterable[SpeechContent], speak: Speak, track: EmotionTrack, options: FaceOptions
    ) -> Iterator[FaceCurves]:
        batch = together(_GPU_WINDOWS) if self.device.type == "cuda" else 1
        return perform(contents, speak, self._head, track, options, batch=batch)


def watched(
    pieces: Iterator[FaceCurves], total: int, callback: ProgressCallback | None, cancel: CancelToken | None
) -> Iterator[FaceCurves]:
    """Pass pieces on, telling how many of `total` frames are done and stopping when asked to."""
    done = 0
    for piece in pieces:
        if cancel is not None:
            cancel.check()
        done += len(piece)
        if callback is not None:
            callback(
                ProgressEvent(stage="motion", done=done, total=total, preview=partial(curves_preview, piece))
            )
        yield piece
