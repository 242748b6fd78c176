"""`EmoteAnimator`: EMOTE behind the same call as `FaceAnimator`, from speech to every kind of face file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from affetto.acting.pieces import join
from affetto.conditioning.track import as_track
from affetto.generators.face.full.audio import RATE
from affetto.generators.face.full.emote import Emote
from affetto.generators.face.full.emote_weights import load_emote
from affetto.generators.face.full.flame_curves import FlameCurves, FlameToArkit
from affetto.generators.face.full.speaker import EmoteMotion, EmoteSpeaker, StreamSpeaker
from affetto.generators.face.full.style import StyleOptions
from affetto.generators.face.performance import FaceOptions, perform
from affetto.generators.face.pipeline import (
    FaceAnimation,
    FacePlan,
    Feeling,
    Speech,
    watched,
)
from affetto.head.flame import FlameModel, load_flame
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio, load_audio, stream_audio
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.speech.reader import ContentReader, WindowPlan
from affetto.speech.sound import blocks_of, check_speech
from affetto.weights.registry import REGISTRY
from affetto.weights.store import expected_path, weight_path

FLAME_IDS = ("flame2023-open", "flame2020")
_BLOCK_S = 5.0
_GPU_WINDOWS = 8


@dataclass(frozen=True, kw_only=True)
class EmotePlan(FacePlan):
    """What is said and felt, the sound itself (16 kHz, mono), and whose style speaks."""

    samples: Float[np.ndarray, "sample"]
    style: StyleOptions


@dataclass(frozen=True, kw_only=True)
class EmoteAnimation(FaceAnimation):
    """A finished performance, with the FLAME curves that EMOTE made of it (25 frames a second)."""

    flame: FlameCurves


class EmoteAnimator:
    """Animates a face from speech with EMOTE (Danecek et al. 2023); called like `FaceAnimator`.

    EMOTE gives expression and jaw in FLAME's space. They become ARKit weights by constrained least squares on the
    user's FLAME, closures that the sound asks for are reached, and head, gaze and blinks, which EMOTE has not, are added
    as in the embedded tier. One second of sound takes about 0.4 s of one CPU core, nearly all of it wav2vec 2.0.
    """

    def __init__(
        self, network: Emote, flame: FlameModel, *, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._head = HeadModel.load()
        self._motion = EmoteMotion(
            network, device=device, dtype=dtype, batch=_GPU_WINDOWS if device.type == "cuda" else 1
        )
        self._arkit = FlameToArkit(flame, self._head)
        self._reader = ContentReader.from_pretrained("embedded", device=device, dtype=dtype)
        self.flame, self.device = flame, device

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "emote",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        flame: str | Path | None = None,
    ) -> "EmoteAnimator":
        """Load `emote` from the store or a converted file, and a FLAME: a file, a registered id, or what is here.

        FLAME 2023 Open comes first, then FLAME 2020. Raises MissingResourceError with the command that gets what lacks.
        """
        where = resolve_device(device)
        network = load_emote(None if str(name) == "emote" else name)
        return cls(network, open_flame(flame), device=where, dtype=resolve_dtype(dtype, where))

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
        style: str | Mapping[str, float] | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> EmoteAnimation:
        """The face that speaks `audio` with `emotion`; `style` names one of the 32 speakers or shares of several.

        EMOTE hears only: `text` raises UsageError. Everything else is as in `FaceAnimator`.
        """
        options = FaceOptions(
            fps=fps, seed=seed, articulation=articulation, head_motion=head_motion, blinks=blinks, gaze=gaze,
            gains=gains or {}, offsets=offsets or {},
        )  # fmt: skip
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        plan = self.plan(speech, emotion, text=text, language=language, options=options, style=style)
        flame = self.flame_curves(plan, callback_on_step_end=callback_on_step_end, cancel=cancel)
        curves = self.perform(plan, flame=flame, cancel=cancel)
        return EmoteAnimation(curves=curves, audio=speech, identity=identity, flame=flame)

    def plan(
        self,
        audio: Speech,
        emotion: Feeling = None,
        *,
        text: str | None = None,
        language: str | None = None,
        options: FaceOptions | None = None,
        style: str | Mapping[str, float] | None = None,
    ) -> EmotePlan:
        """What is said and felt when, to be edited and then given to `perform`."""
        if text is not None or language is not None:
            raise UsageError("EMOTE hears and does not read: leave the words away, or use the embedded tier")
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        check_speech(speech)
        mono = speech.resampled(RATE).mono()
        return EmotePlan(
            content=self._reader(mono), track=as_track(emotion), options=options or FaceOptions(),
            samples=mono, style=StyleOptions.of(style),
        )  # fmt: skip

    def flame_curves(
        self,
        plan: EmotePlan,
        *,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FlameCurves:
        """What EMOTE itself gives for a plan, to be saved, edited, or skinned with `FlameModel.vertices`."""

        def watch(done: int, total: int) -> None:
            if cancel is not None:
                cancel.check()
            if callback_on_step_end is not None:
                callback_on_step_end(ProgressEvent(stage="motion", done=done, total=total))

        return self._motion(plan.samples, plan.track, style=plan.style, watch=watch)

    def perform(
        self,
        plan: EmotePlan,
        *,
        flame: FlameCurves | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FaceCurves:
        """The curves of a plan; `flame` in place of what EMOTE would give, for example after an edit."""
        flame = flame or self.flame_curves(plan, cancel=cancel)
        speaker = EmoteSpeaker(self._arkit(flame), flame.fps)
        pieces = perform([plan.content], speaker, self._head, plan.track, plan.options)
        frames = round(plan.seconds * plan.options.fps)
        return join(watched(pieces, frames, callback_on_step_end, cancel), plan.options.fps)

    def stream(
        self,
        audio: Speech,
        emotion: Feeling = None,
        *,
        options: FaceOptions | None = None,
        style: str | Mapping[str, float] | None = None,
    ) -> Iterator[tuple[float, FaceCurves]]:
        """Yield (start in seconds, curves) piece by piece, in constant memory for sound of any length.

        Each piece is heard with the six seconds before it; a whole clip sees farther, so the two differ slightly.
        """
        options = options or FaceOptions()
        if isinstance(audio, Audio):
            check_speech(audio)
            blocks = blocks_of(audio, _BLOCK_S)
        else:
            blocks = (block for _, block in stream_audio(audio, _BLOCK_S, RATE))
        track = as_track(emotion)
        speaker = StreamSpeaker(self._motion, self._arkit, track, StyleOptions.of(style))
        contents = self._reader.stream(speaker.listening(blocks), plan=WindowPlan())
        sent = 0
        for piece in perform(contents, speaker, self._head, track, options):
            yield sent / options.fps, piece
            sent += len(piece)


def open_flame(name: str | Path | None = None) -> FlameModel:
    """A FLAME model: a file, a registered id, or without `name` the first of those that are here."""
    if name is not None:
        return load_flame(weight_path(str(name)) if str(name) in REGISTRY else name)
    for each in FLAME_IDS:
        if expected_path(REGISTRY[each]).is_file():
            return load_flame(weight_path(each))
    raise MissingResourceError(
        "EMOTE needs FLAME, which is not here: download FLAME 2023 Open from https://flame.is.tue.mpg.de and run"
        f" affetto weights pull {FLAME_IDS[0]} --from flame2023_Open.pkl"
    )
