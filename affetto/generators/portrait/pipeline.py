"""`TalkingHead`: a portrait, speech and an emotion in, a video of that person saying it out."""

import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.generators.portrait.motion import MotionGenerator
from affetto.generators.portrait.portrait import FRAMES, Finder, Photo, Portrait, find_faces, read_portrait
from affetto.generators.portrait.renderer import PortraitRenderer
from affetto.generators.portrait.saving import save_video
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.animation.files import load_curves
from affetto.media.audio import Audio, load_audio
from affetto.media.image import load_image
from affetto.media.shelf import put_away
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.weights.registry import get

MIN_SIDE, MAX_SIDE = 256, 1080

Speech = Audio | str | Path
Feeling = str | Emotion | EmotionTrack | None
Motion = FaceCurves | str | Path


@dataclass(frozen=True, kw_only=True)
class TalkOptions:
    """How a portrait performs and how it is shown.

    `size` is the short side in pixels (None: the picture's own, within 256..1080), `frame` one of `FRAMES`. The guidances
    say how strictly sound and emotion are followed; `articulation` is how far lips travel while speaking; `head_motion`,
    `blinks` and `gaze` are amounts, 1 is natural.
    """

    fps: float = 25.0
    size: int | None = None
    frame: str = "whole"
    alpha: bool = False
    seed: int = 0
    audio_guidance: float = 2.0
    emotion_guidance: float = 1.5
    articulation: float = 1.1
    head_motion: float = 1.0
    blinks: float = 1.0
    gaze: float = 1.0

    def __post_init__(self) -> None:
        if not 10.0 <= self.fps <= 60.0:
            raise UsageError(f"fps is {self.fps:g}: use 10 to 60, usually 25 or 30")
        if self.size is not None and not MIN_SIDE <= self.size <= MAX_SIDE:
            raise UsageError(f"size is {self.size}: use {MIN_SIDE} to {MAX_SIDE} pixels on the short side")
        if self.frame not in FRAMES:
            raise UsageError(f"no frame is called {self.frame!r}: use {', '.join(FRAMES)}")
        for name in ("articulation", "head_motion", "blinks", "gaze"):
            if not 0.0 <= getattr(self, name) <= 3.0:
                raise UsageError(f"{name} is {getattr(self, name):g}: use 0 to 3")


@dataclass(frozen=True, kw_only=True)
class TalkPlan:
    """All that decides a video before a frame is drawn; edit it with `dataclasses.replace`, then `render` it."""

    portrait: Portrait
    curves: FaceCurves
    audio: Audio
    options: TalkOptions


@dataclass(frozen=True, kw_only=True)
class TalkingVideo:
    """A portrait's performance; frames are drawn when they are asked for, so that length costs no memory."""

    plan: TalkPlan
    head: HeadModel

    @property
    def curves(self) -> FaceCurves:
        """What moves the face."""
        return self.plan.curves

    def __len__(self) -> int:
        return len(self.plan.curves)

    def frames(self, *, alpha: bool | None = None) -> Iterator[UInt8[np.ndarray, "row column channel"]]:
        """The frames one by one: RGB, or RGBA with `alpha` (None: as the plan says)."""
        options = self.plan.options
        renderer = PortraitRenderer(
            self.plan.portrait.image,
            self.plan.portrait.fit,
            self.head,
            size=_short_side(self.plan.portrait, options),
            alpha=options.alpha if alpha is None else alpha,
        )
        curves = self.plan.curves
        try:
            for weights, head, eyes in zip(curves.weights, curves.head, curves.eyes, strict=True):
                yield renderer.frame(weights, head, eyes)
        finally:
            renderer.close()

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Path:
        """Write what the name says.

        .mp4 (H.264 and AAC), .mov (ProRes 4444 with transparency and sound), `frame_%05d.png` or a folder (pictures),
        .csv .json .npz (the curves), .glb .usda (the curves on our head). Raises UsageError for another suffix.
        """
        return save_video(self, Path(path), overwrite=overwrite, progress=progress, cancel=cancel)


@runtime_checkable
class Mover(Protocol):
    """What gives a performance for speech; `MotionGenerator` is one."""

    def __call__(
        self,
        speech: Speech,
        emotion: Feeling = None,
        *,
        fps: float = ...,
        seed: int = ...,
        audio_guidance: float = ...,
        emotion_guidance: float = ...,
        articulation: float = ...,
        head_motion: float = ...,
        blinks: float = ...,
        gaze: float = ...,
        callback: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FaceCurves:
        """The curves of `speech` with `emotion`."""
        ...


class TalkingHead:
    """Makes portraits speak: faces are found and fitted, a flow moves them, the photograph itself is drawn anew."""

    def __init__(self, finder: Finder, motion: Mover, head: HeadModel, *, device: torch.device) -> None:
        self._finder, self._motion, self.head = finder, motion, head
        self._cache_key = _finder_key() if isinstance(finder, FaceFinder) else None
        self.device = device

    @classmethod
    def from_pretrained(
        cls, name: str = "embedded", *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
    ) -> "TalkingHead":
        """Load the `embedded` models; on CUDA they run under autocast in `dtype` (bf16 unless told otherwise).

        `dice-talk` gives the published diffusion pipeline, once its weights are pulled, and `synchrorama` the same with what
        the user's training added; both are called like this one.
        """
        if name == "dice-talk":
            module = importlib.import_module("affetto.generators.portrait.full.pipeline")
            return module.DiceTalkPipeline.from_pretrained(device=device, dtype=dtype)
        if name == "synchrorama":
            module = importlib.import_module("affetto.generators.portrait.full.synchro_pipeline")
            return module.SynchroRaMaPipeline.from_pretrained(device=device, dtype=dtype)
        if name != "embedded":
            known = "use 'embedded', 'dice-talk' or 'synchrorama'"
            raise MissingResourceError(f"no talking head {name!r} here: {known}")
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        return cls(
            FaceFinder.from_pretrained(device=where, dtype=precision),
            MotionGenerator.from_pretrained(name, device=where, dtype=precision),
            HeadModel.load(),
            device=where,
        )

    def faces(self, photo: Photo) -> list[FaceLandmarks]:
        """The faces of a picture, the largest first."""
        image = photo if isinstance(photo, np.ndarray) else load_image(photo)
        return find_faces(image, self._finder, cache_key=self._cache_key)

    def portrait(
        self,
        photo: Photo,
        *,
        face: int | None = None,
        landmarks: FaceLandmarks | None = None,
        name: str | None = None,
    ) -> Portrait:
        """The portrait of one face; see `affetto.generators.portrait.portrait.read_portrait`."""
        return read_portrait(
            photo,
            self._finder,
            self.head,
            face=face,
            landmarks=landmarks,
            cache_key=self._cache_key,
            name=name,
        )

    def __call__(
        self,
        photo: Photo | Portrait,
        audio: Speech,
        emotion: Feeling = None,
        *,
        face: int | None = None,
        landmarks: FaceLandmarks | None = None,
        motion: Motion | None = None,
        options: TalkOptions | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> TalkingVideo:
        """The video of the person in `photo` who says `audio` with `emotion` (text form, value or track; None is neutral).

        `motion` (curves or their file) moves the face instead of the generator. The same seed gives the same video on the
        same machine.
        """
        plan = self.plan(
            photo, audio, emotion, face=face, landmarks=landmarks, motion=motion, options=options,
            callback_on_step_end=callback_on_step_end, cancel=cancel,
        )  # fmt: skip
        return self.render(plan)

    def plan(
        self,
        photo: Photo | Portrait,
        audio: Speech,
        emotion: Feeling = None,
        *,
        face: int | None = None,
        landmarks: FaceLandmarks | None = None,
        motion: Motion | None = None,
        options: TalkOptions | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> TalkPlan:
        """Who moves how, before anything is drawn; raises InvalidInputError for a picture or sound that cannot be used."""
        options = options or TalkOptions()
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        frames = round(speech.seconds * options.fps)
        if frames < 1:
            raise InvalidInputError(
                f"{speech.path or 'the sound'}: lasts {speech.seconds:.3f} s, less than one frame: give some speech"
            )
        whose = photo if isinstance(photo, Portrait) else self.portrait(photo, face=face, landmarks=landmarks)
        whose = whose.framed(options.frame)
        if cancel is not None:
            cancel.check()
        if motion is None:
            curves = self._motion(
                speech, as_track(emotion), fps=options.fps, seed=options.seed,
                audio_guidance=options.audio_guidance, emotion_guidance=options.emotion_guidance,
                articulation=options.articulation, head_motion=options.head_motion,
                blinks=options.blinks, gaze=options.gaze,
                callback=callback_on_step_end, cancel=cancel,
            )  # fmt: skip
            put_away(speech.samples)  # they wait until the frames are drawn
        else:
            given = motion if isinstance(motion, FaceCurves) else load_curves(motion)
            curves = calmed(given.resampled(options.fps), options)
        return TalkPlan(portrait=whose, curves=of_length(curves, frames), audio=speech, options=options)

    def render(self, plan: TalkPlan) -> TalkingVideo:
        """The video of a plan; frames are drawn when they are asked for or saved."""
        return TalkingVideo(plan=plan, head=self.head)

    def stream(
        self,
        photo: Photo | Portrait,
        audio: Speech,
        emotion: Feeling = None,
        *,
        motion: Motion | None = None,
        options: TalkOptions | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[tuple[float, UInt8[np.ndarray, "row column channel"]]]:
        """Yield (seconds, frame) in constant memory for sound of any length."""
        video = self(photo, audio, emotion, motion=motion, options=options, cancel=cancel)
        for index, frame in enumerate(video.frames()):
            if cancel is not None:
                cancel.check()
            yield index / video.curves.fps, frame


def of_length(curves: FaceCurves, frames: int) -> FaceCurves:
    """The curves cut, or their last frame held, to a number of frames."""
    if len(curves) == 0:
        return FaceCurves.neutral(frames, curves.fps)
    if len(curves) >= frames:
        return curves.sliced(0, frames)
    index = np.minimum(np.arange(frames), len(curves) - 1)
    return dataclasses.replace(
        curves, weights=curves.weights[index], head=curves.head[index], eyes=curves.eyes[index]
    )


def calmed(curves: FaceCurves, options: TalkOptions) -> FaceCurves:
    """Curves with their head, blink and gaze motion scaled as the options say."""
    weights = curves.weights.copy()
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[:, ARKIT_INDEX[name]] *= options.blinks
    for name, index in ARKIT_INDEX.items():
        if name.startswith("eyeLook"):
            weights[:, index] *= options.gaze
    head = curves.head * np.float32(options.head_motion)
    return dataclasses.replace(
        curves, weights=np.clip(weights, 0, 1.3), head=head, eyes=curves.eyes * np.float32(options.gaze)
    )


def _short_side(portrait: Portrait, options: TalkOptions) -> int:
    """The frames' short side: as asked, or the picture's own within what is offered."""
    if options.size is not None:
        return options.size
    return int(np.clip(min(portrait.image.shape[:2]), MIN_SIDE, MAX_SIDE))


def _finder_key() -> str:
    """What found faces depend on besides the picture."""
    return f"landmarks {get('portrait-landmarks').sha256[:16]} 1"
