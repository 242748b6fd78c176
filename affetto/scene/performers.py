"""The generators of a scene, each loaded when it is first needed, and what each does with a line or a speaker."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from affetto.conditioning.calibration import Calibration
from affetto.conditioning.track import MODALITIES, EmotionTrack
from affetto.generators.face.performance import FaceOptions
from affetto.generators.face.pipeline import FaceAnimator, FacePlan
from affetto.generators.music.pipeline import MusicComposer, MusicPiece
from affetto.generators.voice.guide import VoiceOptions
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.generators.voice.time_map import TimeMap
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.runtime.errors import AffettoError, InvalidInputError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.scene.lines import Line, sentence_times, suggested, wants_suggestion
from affetto.scene.model import HeadSettings, Scene, Speaker
from affetto.scene.planning import words_can_be_read
from affetto.scene.scoring import on_the_bar, turns
from affetto.scene.timeline import (
    SpokenLine,
    Timeline,
    speaker_content,
    speaker_phones,
    warped_content,
    warped_phones,
)
from affetto.speech.content import RATE, loudness_curve


@dataclass(frozen=True, kw_only=True, eq=False)
class Troupe:
    """Voice, face and music for one scene, on one device."""

    scene: Scene
    device: str | torch.device = "auto"
    dtype: str | torch.dtype = "auto"
    calibration: Calibration | None = None

    @cached_property
    def converter(self) -> VoiceConverter:
        """The voice converter."""
        return VoiceConverter.from_pretrained("embedded", device=self.device, dtype=self.dtype)

    @cached_property
    def animator(self) -> FaceAnimator:
        """The face animator."""
        return FaceAnimator.from_pretrained("embedded", device=self.device, dtype=self.dtype)

    @cached_property
    def composer(self) -> MusicComposer:
        """The composer."""
        return MusicComposer.from_pretrained("embedded", device=self.device, dtype=self.dtype)

    @cached_property
    def reads_words(self) -> bool:
        """Whether lips can follow the words rather than the sound."""
        return words_can_be_read()

    def speak(
        self, line: Line, *, seed: int, progress: ProgressCallback | None, cancel: CancelToken | None
    ) -> SpokenLine:
        """A line with its emotion: the voice converted, and its content, words, cues and tracks moved along with it.

        What is said is read once, off the recording before conversion, and serves every picture.
        """
        where = f"{line.speaker}: {line.turn.audio or (line.words or '')[:30]}"
        plan = self._read(line, where)
        track = line.track
        cues: list[tuple[float, float, str]] = []
        if line.words is not None:
            cues = sentence_times(line.words, line.audio.seconds, plan.phones, line.turn.language)
            if wants_suggestion(self.scene, line):
                track = suggested(line.words, cues)
        speaker = self.scene.speakers[line.speaker]
        audio, time_map, residual = line.audio, TimeMap.identity(line.audio.seconds), None
        if speaker.voice.convert:
            options = VoiceOptions(
                strength=speaker.voice.gain,
                level=speaker.voice.level,
                keep_timing=speaker.voice.keep_timing,
                seed=seed,
            )
            felt = self._calibrated(_lane(track, "voice", speaker.voice.lag), "voice")
            try:
                prepared = self.converter.plan(
                    line.audio, felt, options=options, callback_on_step_end=progress, cancel=cancel
                )
                done = self.converter.perform(prepared)
            except AffettoError as error:
                raise type(error)(f"{where}: {error}") from error
            audio, time_map, residual = done.audio, done.time_map, prepared.residual
        loudness = loudness_curve(audio.resampled(RATE).mono())
        tracks = {kind: self._course(track, kind, speaker).warped(time_map.to_output) for kind in MODALITIES}
        return SpokenLine(
            line=line,
            audio=audio,
            time_map=time_map,
            content=warped_content(plan.content, time_map, loudness),
            phones=None if plan.phones is None else warped_phones(plan.phones, time_map),
            tracks={**tracks, "scene": replace(track, lanes={}, lags={}).warped(time_map.to_output)},
            cues=tuple(
                (float(time_map.to_output(start)), float(time_map.to_output(stop)), text)
                for start, stop, text in cues
            ),
            residual=residual,
        )

    def _read(self, line: Line, where: str) -> FacePlan:
        """The content of a line, and its phones when its words are known and can be read."""
        words = line.words if self.reads_words else None
        language = line.turn.language
        try:
            return self.animator.plan(line.audio, text=words, language=language)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from error

    def _course(self, track: EmotionTrack, kind: str, speaker: Speaker) -> EmotionTrack:
        """What one modality feels: its lane, its lag, its gain (the voice's gain acts in its converter)."""
        if kind == "face":
            return self._calibrated(_lane(track, kind, speaker.face.lag).scaled(speaker.face.gain), kind)
        if kind == "portrait" and speaker.portrait is not None:
            portrait = speaker.portrait
            moved_by = kind if portrait.motion == "own" else "face"
            return self._calibrated(_lane(track, kind, portrait.lag).scaled(portrait.gain), moved_by)
        if kind == "music" and self.scene.music is not None:
            return _lane(track, kind, self.scene.music.lag).scaled(self.scene.music.gain)
        return _lane(track, kind, speaker.voice.lag if kind == "voice" else 0.0)

    def _calibrated(self, track: EmotionTrack, kind: str) -> EmotionTrack:
        return track if self.calibration is None else self.calibration.applied(track, kind)

    def play(
        self,
        timeline: Timeline,
        name: str,
        *,
        seed: int,
        track: EmotionTrack | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> FaceCurves:
        """The face of one speaker over the whole timeline, listening where others speak."""
        face = self.scene.speakers[name].face
        lines = timeline.of(name)
        plan = FacePlan(
            content=speaker_content(lines, timeline.seconds),
            track=timeline.tracks[name, "face"] if track is None else track,
            options=FaceOptions(
                fps=self.scene.fps,
                seed=seed,
                articulation=face.articulation,
                head_motion=face.head_motion,
                blinks=face.blinks,
                gaze=face.gaze,
                gains=face.gains,
                offsets=face.offsets,
            ),
            phones=speaker_phones(lines),
        )
        curves = self.animator.perform(plan, callback_on_step_end=progress, cancel=cancel)
        return fitted(curves, round(timeline.seconds * self.scene.fps))

    def compose(
        self,
        timeline: Timeline,
        base: Path,
        *,
        seed: int,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> MusicPiece:
        """Music as long as the timeline that follows its emotion; bar lines meet its turns where the tempo can reach them."""
        bed = self.scene.music
        assert bed is not None
        track = timeline.music
        if bed.emotion is not None:
            from affetto.scene.lines import read_track

            track = _lane(read_track(bed.emotion, base), "music", bed.lag).scaled(bed.gain)
        track = self._calibrated(track, "music")
        ensemble = "ensemble" if bed.ensemble else "piano"
        if bed.like is not None:
            return self.composer(
                track, seconds=timeline.seconds, key=bed.key, tempo=bed.tempo, like=base / bed.like, seed=seed,
                ensemble=ensemble, callback_on_step_end=progress, cancel=cancel,
            )  # fmt: skip

        def planned(course: EmotionTrack):  # noqa: ANN202  a local shorthand
            return self.composer.plan(
                course, seconds=timeline.seconds, key=bed.key, tempo=bed.tempo, metre=bed.metre, seed=seed
            )

        plan = planned(track)
        keys = turns(track, timeline.seconds)
        if bed.on_the_bar and keys:
            lines = np.array([float(plan.starts[np.abs(plan.starts - key).argmin()]) for key in keys])
            at = np.concatenate([[0.0], keys, [timeline.seconds]])
            to = np.concatenate([[0.0], lines, [timeline.seconds]])
            rising = np.concatenate([[True], np.diff(to) > 1e-3])
            rising &= np.concatenate([to[:-1] < timeline.seconds - 1e-3, [True]])
            # planned as if each turn lay on a bar line, so that each bar feels what will be felt when it sounds
            plan = planned(
                track.warped(lambda t: float(np.interp(t, at[rising], to[rising]) + max(t - at[-1], 0.0)))
            )
            plan = on_the_bar(plan, keys)
        return self.composer.perform(plan, ensemble=ensemble, callback_on_step_end=progress, cancel=cancel)


def _lane(track: EmotionTrack, kind: str, lag: float) -> EmotionTrack:
    """One modality's own course, with its own lag and `lag` more."""
    lane = track.for_modality(kind)
    return lane.shifted(lag) if lag else lane


def fitted(curves: FaceCurves, frames: int) -> FaceCurves:
    """The curves as exactly so many frames; the last is held where some are missing."""
    if len(curves) >= frames:
        return curves.sliced(0, frames)
    missing = frames - len(curves)
    return replace(
        curves,
        weights=np.concatenate([curves.weights, np.repeat(curves.weights[-1:], missing, axis=0)]),
        head=np.concatenate([curves.head, np.repeat(curves.head[-1:], missing, axis=0)]),
        eyes=np.concatenate([curves.eyes, np.repeat(curves.eyes[-1:], missing, axis=0)]),
    )


def person(settings: HeadSettings) -> HeadModel:
    """The head whose identity the settings give."""
    head = HeadModel.load()
    if settings.identity is None:
        return head
    modes = len(head.identity)
    if isinstance(settings.identity, int):
        # Half of the population's spread: clearly someone else, never a caricature.
        return head.with_identity(
            (0.5 * np.random.default_rng(settings.identity).standard_normal(modes)).astype(np.float32)
        )
    coefficients = np.zeros(modes, np.float32)
    for mode, value in settings.identity.items():
        if mode >= modes:
            raise InvalidInputError(f"identity mode {mode} does not exist: use 0 to {modes - 1}")
        coefficients[mode] = value
    return head.with_identity(coefficients)
