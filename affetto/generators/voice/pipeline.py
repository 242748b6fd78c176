"""`VoiceConverter`: a recording and an emotion in, the same words in the same voice, sounding so, out."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.voice.adapter import VoiceCourse
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import CONTROL_FPS, ControlResidual, VoiceControls, analyse
from affetto.generators.voice.guide import Guide, VoiceOptions, felt_already
from affetto.generators.voice.loudness import settled
from affetto.generators.voice.pieces import (
    check_speech,
    check_spoken,
    check_voiced,
    clipping_warning,
    windows,
)
from affetto.generators.voice.render import output_times, render
from affetto.generators.voice.residual_flow import ResidualFlow
from affetto.generators.voice.speaker import SpeakerStatistics, speaker_statistics
from affetto.generators.voice.stream import BLOCK_S, VoicePiece, VoiceStream, split_blocks
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio, load_audio, probe_audio, save_audio, stream_channels
from affetto.media.previews import lines_preview
from affetto.provenance.manifests import Origin
from affetto.provenance.sealing import save_marked_audio, sealed
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import MissingResourceError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

Speech = Audio | str | Path
Feeling = str | Emotion | EmotionTrack | None


@dataclass(frozen=True, kw_only=True)
class VoicePlan:
    """All that decides a conversion, before a sample changes; edit it with `dataclasses.replace`, then `perform` it."""

    audio: Audio
    controls: VoiceControls
    speaker: SpeakerStatistics
    track: EmotionTrack
    residual: ControlResidual
    options: VoiceOptions
    warnings: tuple[str, ...] = ()

    @property
    def time_map(self) -> TimeMap:
        """Where each moment of the source will go."""
        return output_times(self.controls, self.residual, keep_timing=self.options.keep_timing)


@dataclass(frozen=True, kw_only=True)
class VoiceConversion:
    """The converted recording, the one it was made from, and where each moment went."""

    audio: Audio
    source: Audio
    time_map: TimeMap
    plan: VoicePlan

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, a line each: clipping in the source, overdriven emotion."""
        return self.plan.warnings

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a .wav or .flac file, marked as made by affetto unless it is the very recording; or the time map as .json."""
        if Path(path).suffix.lower() == ".json":
            with sealed(path, self._origin, overwrite=overwrite) as temporary:
                self.time_map.save(temporary)
            return Path(path)
        if self.audio.rate == self.source.rate and np.array_equal(self.audio.samples, self.source.samples):
            return save_audio(path, self.audio, overwrite=overwrite)
        return save_marked_audio(path, self.audio, self._origin, overwrite=overwrite)

    @property
    def _origin(self) -> Origin:
        sources = () if self.source.path is None else (Path(self.source.path),)
        recipe = {"emotion": str(self.plan.track), "strength": self.plan.options.strength}
        return Origin(generator="voice", action="edited", recipe=recipe, ingredients=sources)

    def report(self, path: str | Path) -> Path:
        """Draw source and result, one above the other, as a picture (.png)."""
        from affetto.generators.voice.report import draw_report  # matplotlib is heavy and seldom wanted

        with sealed(path, self._origin) as temporary:
            draw_report(
                self.source,
                self.audio,
                temporary,
                track=self.plan.track,
                strength=self.plan.options.strength,
                time_map=self.time_map,
            )
        return Path(path)


class VoiceConverter:
    """Gives a recording another emotion, after EmoReg (Gudmalwar et al. 2025): a residual on the source's own controls.

    What moves is found by a flow from the bank's mean residual, told where the emotion stands in embedding space and
    where it shall go. Strength 0 returns the very samples. Without a flow it is the linear engine of the bank alone.
    """

    def __init__(
        self, embedder: VoiceEmbedder, bank: VoiceBank, flow: ResidualFlow | None, *, device: torch.device
    ) -> None:
        self._embedder = embedder
        self._bank = bank
        self._flow = flow
        self.device = device

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        **options: Any,
    ) -> "VoiceConverter":
        """Load the `embedded` models, or `emoreg` (the published architecture with weights of the user's own).

        `options` go to the EmoReg converter, which is called like this one. Raises MissingResourceError for another name.
        """
        if str(name) == "emoreg":
            module = importlib.import_module("affetto.generators.voice.full.emoreg")
            return module.EmoRegConverter.from_pretrained(device=device, dtype=dtype, **options)
        if str(name) != "embedded" or options:
            raise MissingResourceError(f"no voice converter {str(name)!r} here: use 'embedded' or 'emoreg'")
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        return cls(
            VoiceEmbedder.from_pretrained(device=where, dtype=precision),
            VoiceBank.from_pretrained("embedded"),
            ResidualFlow.from_pretrained("embedded", device=where, dtype=precision),
            device=where,
        )

    def __call__(
        self,
        audio: Speech,
        emotion: Feeling,
        *,
        strength: float = 1.0,
        level: float = 0.0,
        keep_timing: bool = False,
        seed: int = 0,
        steps: int = 6,
        variety: float = 0.5,
        bank: VoiceBank | str | Path | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> VoiceConversion:
        """`audio` said with `emotion` (text form, value or track over its time), as `VoiceOptions` tells.

        `bank` takes the emotions of another bank file. The same seed gives the same samples on the same machine. Raises
        InvalidInputError for sound that is too short, silent, or holds no voice.
        """
        options = VoiceOptions(
            strength=strength, level=level, keep_timing=keep_timing, seed=seed, steps=steps, variety=variety
        )
        plan = self.plan(
            audio,
            emotion,
            options=options,
            bank=bank,
            callback_on_step_end=callback_on_step_end,
            cancel=cancel,
        )
        return self.perform(plan)

    def plan(
        self,
        audio: Speech,
        emotion: Feeling,
        *,
        options: VoiceOptions | None = None,
        bank: VoiceBank | str | Path | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> VoicePlan:
        """What will change in each hundredth of a second, to be looked at, edited, and given to `perform`."""
        options = options or VoiceOptions()
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        check_speech(speech)
        track = as_track(emotion)
        controls = analyse(speech.mono(), speech.rate)
        speaker = speaker_statistics(controls)
        check_voiced(speech.path, speaker)
        check_spoken(speech.path, controls)
        guide = Guide(self._chosen(bank), self._flow, track, options)
        course = guide.course(0, len(controls))
        residual = ControlResidual.zeros(len(controls))
        if not course.idle:
            place = self._embedder(speech)[0].numpy()
            guide.settle(place, felt_already(self._embedder, place, guide.bank.names))
            rows = []
            for window in (pieces := windows(controls)):
                if cancel is not None:
                    cancel.check()
                rows.append(guide.rows(controls, course, speaker, window))
                if callback_on_step_end is not None:
                    look = partial(_course_of, rows)
                    callback_on_step_end(
                        ProgressEvent(stage="flow", done=len(rows), total=len(pieces), preview=look)
                    )
            residual = ControlResidual.from_stack(np.concatenate(rows))
        return VoicePlan(
            audio=speech,
            controls=controls,
            speaker=speaker,
            track=track,
            residual=residual,
            options=options,
            warnings=_warnings(speech, course),
        )

    def perform(self, plan: VoicePlan) -> VoiceConversion:
        """The sound of a plan; a residual of zeros gives the samples of the source, bit for bit."""
        source = plan.audio
        if plan.residual.is_zero:
            return VoiceConversion(
                audio=source, source=source, time_map=TimeMap.identity(source.seconds), plan=plan
            )
        done = render(source, plan.controls, plan.residual, keep_timing=plan.options.keep_timing)
        done = settled(done, source, plan.controls, plan.residual)
        return VoiceConversion(
            audio=replace(done.audio, path=None), source=source, time_map=done.time_map, plan=plan
        )

    def stream(
        self,
        audio: Speech,
        emotion: Feeling,
        *,
        options: VoiceOptions | None = None,
        bank: VoiceBank | str | Path | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[VoicePiece]:
        """Yield the converted recording piece by piece, in constant memory for sound of any length.

        A file is read as it is needed and cut where it is quiet, after 8 to 24 seconds. The pieces differ from what a
        call gives only in that the voice is judged by what has been heard so far. Raises like a call; that nothing is
        said at all shows only at the end.
        """
        guide = Guide(self._chosen(bank), self._flow, as_track(emotion), options or VoiceOptions())
        if isinstance(audio, Audio):
            check_speech(audio)
            rate, blocks = audio.rate, split_blocks(audio)
        else:
            info = probe_audio(audio, max_seconds=None)
            rate, blocks = info.rate, stream_channels(audio, BLOCK_S)
        stream = VoiceStream(
            guide, self._embedder, rate, Path(audio) if not isinstance(audio, Audio) else audio.path
        )
        for piece in stream.pieces(blocks):
            if cancel is not None:
                cancel.check()
            yield piece

    def _chosen(self, bank: VoiceBank | str | Path | None) -> VoiceBank:
        if bank is None:
            return self._bank
        return bank if isinstance(bank, VoiceBank) else VoiceBank.from_pretrained(str(bank))


def _course_of(rows: list[np.ndarray]) -> dict[str, Any]:
    """Melody (an octave up or down) and loudness (12 dB) as they are being changed, 0.5 where they stay."""
    changed = ControlResidual.from_stack(np.concatenate(rows))
    lines = {"pitch": 0.5 + changed.pitch / 24.0, "energy": 0.5 + changed.energy / 24.0}
    return lines_preview(lines, len(changed) / CONTROL_FPS)


def _warnings(audio: Audio, course: VoiceCourse) -> tuple[str, ...]:
    found = [clipping_warning(audio)]
    if course.overdriven:
        found.append("the emotion is overdriven: beyond strength 1 a voice may sound unnatural")
    return tuple(line for line in found if line is not None)
