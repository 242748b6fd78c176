"""One timeline: when every turn is said, what everyone feels at every moment, which shot shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import MODALITIES, EmotionTrack, Keyframe, Pulse
from affetto.generators.voice.controls import ControlResidual
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio
from affetto.media.shelf import Shelf, put_away
from affetto.scene.lines import Line, kept
from affetto.scene.model import Scene
from affetto.speech.content import CONTENT_FPS, SpeechContent
from affetto.speech.phones import PHONE_INDEX, PHONES, SILENCE, TimedPhone

GRID_S = 0.02
"""Turns begin on this grid, on which samples, frames of content and all usual frame rates meet."""

_FADE_IN_S, _FADE_OUT_S = 0.35, 0.7  # from listening to speaking, and back
_SHORT_GAP_S = 1.2  # silences shorter than this do not change what a speaker feels


@dataclass(frozen=True, kw_only=True)
class SpokenLine:
    """A turn as it will be heard: its sound after conversion, and everything that moved with it (its own seconds)."""

    line: Line
    audio: Audio
    time_map: TimeMap
    content: SpeechContent
    phones: tuple[TimedPhone, ...] | None
    tracks: Mapping[str, EmotionTrack]  # by modality, and `scene`
    cues: tuple[tuple[float, float, str], ...]  # start, end, sentence
    residual: ControlResidual | None = None  # what the conversion changes, in time of the recording

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.audio.seconds

    def kept(self, shelf: Shelf, *, measured: bool) -> "SpokenLine":
        """The same with its sound on a shelf; without what its conversion changes unless that will be measured."""
        put_away(self.line.audio.samples)
        audio = self.line.audio if self.audio is self.line.audio else kept(self.audio, shelf)
        return replace(self, audio=audio, residual=self.residual if measured else None)


@dataclass(frozen=True, kw_only=True)
class PlacedLine:
    """A spoken line and when it begins, in seconds of the timeline."""

    spoken: SpokenLine
    start: float

    @property
    def stop(self) -> float:
        """When it ends."""
        return self.start + self.spoken.seconds

    @property
    def speaker(self) -> str:
        """Who says it."""
        return self.spoken.line.speaker


@dataclass(frozen=True, kw_only=True)
class ShotSpan:
    """A shot on the timeline."""

    name: str
    view: str
    start: float
    stop: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Everything of a scene that has a time."""

    lines: tuple[PlacedLine, ...]
    shots: tuple[ShotSpan, ...]
    seconds: float
    speech_stop: float  # when the last words end
    tracks: Mapping[tuple[str, str], EmotionTrack]  # by speaker and modality (or `scene`)
    course: EmotionTrack  # of whoever speaks
    music: EmotionTrack  # what the music follows

    @property
    def speakers(self) -> tuple[str, ...]:
        """Everyone who speaks, in the order of their first words."""
        return tuple(dict.fromkeys(line.speaker for line in self.lines))

    def cut(self, seconds: float) -> "Timeline":
        """The beginning of the timeline, for measuring; lines that begin later are left out."""
        if self.seconds <= seconds:
            return self
        return replace(
            self, lines=tuple(line for line in self.lines if line.start < seconds), seconds=seconds
        )

    def of(self, speaker: str) -> list[PlacedLine]:
        """The lines of one speaker."""
        return [line for line in self.lines if line.speaker == speaker]


def lay_out(scene: Scene, spoken: Sequence[SpokenLine]) -> Timeline:
    """The timeline of lines in order: shots one after the other, pauses and starts as the scene says."""
    placed: list[PlacedLine] = []
    shots: list[ShotSpan] = []
    cursor = 0.0
    for number, shot in enumerate(scene.shot_list):
        begin, end = cursor, cursor
        for each in (line for line in spoken if line.line.shot == number):
            turn = each.line.turn
            pause = turn.pause if placed else 0.0
            start = begin + turn.start if turn.start is not None else end + pause
            start = float(np.ceil(start / GRID_S - 1e-6) * GRID_S)
            placed.append(PlacedLine(spoken=each, start=start))
            end = max(end, start + each.seconds)
        cursor = float(np.ceil((end + shot.hold) / GRID_S - 1e-6) * GRID_S)
        shots.append(
            ShotSpan(name=shot.name or f"shot {number + 1}", view=shot.view, start=begin, stop=cursor)
        )
    tail = scene.music.tail if scene.music is not None else 0.0
    frames = int(np.ceil((cursor + tail) * scene.fps - 1e-6))
    seconds = frames / scene.fps
    shots[-1] = replace(shots[-1], stop=seconds)
    ordered = tuple(sorted(placed, key=lambda line: line.start))
    return Timeline(
        lines=ordered,
        shots=tuple(shots),
        seconds=seconds,
        speech_stop=cursor,
        tracks=_speaker_tracks(scene, ordered, seconds),
        course=joined([(line.start, line.stop, line.spoken.tracks["scene"]) for line in ordered]),
        music=joined([(line.start, line.stop, line.spoken.tracks["music"]) for line in ordered]),
    )


def _speaker_tracks(
    scene: Scene, lines: Sequence[PlacedLine], seconds: float
) -> dict[tuple[str, str], EmotionTrack]:
    found: dict[tuple[str, str], EmotionTrack] = {}
    alone = len({line.speaker for line in lines}) == 1
    for speaker in dict.fromkeys(line.speaker for line in lines):
        listening = None
        if not alone:
            listening = EmotionTrack.parse(scene.speakers[speaker].listening).at(0.0)
        mine = [line for line in lines if line.speaker == speaker]
        for kind in ("scene", *MODALITIES):
            parts = [(line.start, line.stop, line.spoken.tracks[kind]) for line in mine]
            found[speaker, kind] = joined(parts, listening=listening, seconds=seconds)
    return found


def joined(
    parts: Sequence[tuple[float, float, EmotionTrack]],
    *,
    listening: Emotion | None = None,
    seconds: float | None = None,
) -> EmotionTrack:
    """Courses of turns (start, stop, track from 0) as one; between them, where told so, what a listener feels.

    Tracks that travel differently between keyframes (`space`) are baked to 25 keyframes a second first.
    """
    spaces = {(track.space, track.route) for _, _, track in parts}
    keys: list[Keyframe] = []
    pulses: list[Pulse] = []
    for index, (start, stop, track) in enumerate(parts):
        if len(spaces) > 1 and track.space != "linear":
            track = track.resampled(25.0, seconds=stop - start)
        piece = track.sliced(0.0, stop - start)
        if listening is not None:
            _add_listening(keys, listening, start, first=index == 0)
        shifted = [replace(key, time=key.time + start) for key in piece.keyframes]
        last = shifted[-1]
        shifted[-1] = replace(last, ease="hold" if listening is None else "cosine")
        for key in shifted:
            if not keys or key.time > keys[-1].time + 1e-4:
                keys.append(key)
        pulses += [replace(pulse, time=pulse.time + start) for pulse in piece.pulses]
        following = parts[index + 1][0] if index + 1 < len(parts) else seconds
        if listening is not None and following is not None and following - stop > _SHORT_GAP_S:
            keys.append(Keyframe(time=max(stop, keys[-1].time) + _FADE_OUT_S, emotion=listening))
    keys = _without_stepping_holds(keys, [start for start, _, _ in parts])
    space, route = next(iter(spaces)) if len(spaces) == 1 else ("linear", "arousal")
    return EmotionTrack(keyframes=tuple(keys), pulses=tuple(pulses), space=space, route=route)


def _add_listening(keys: list[Keyframe], listening: Emotion, start: float, *, first: bool) -> None:
    """The listener's emotion up to shortly before `start`."""
    if first and start > _FADE_IN_S:
        keys.append(Keyframe(time=0.0, emotion=listening))
    if keys and start - _FADE_IN_S > keys[-1].time and keys[-1].emotion == listening:
        keys.append(Keyframe(time=start - _FADE_IN_S, emotion=listening, ease="cosine"))


def _without_stepping_holds(keys: list[Keyframe], starts: Sequence[float]) -> list[Keyframe]:
    """Holds over a pause end in a short ramp before the next turn instead of a jump."""
    found: list[Keyframe] = []
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        found.append(key)
        if (
            following is None
            or key.ease != "hold"
            or not any(abs(following.time - at) < 1e-6 for at in starts)
        ):
            continue
        gap = following.time - key.time
        found[-1] = replace(key, ease="linear")
        if gap > 0.2:
            found[-1] = replace(key, ease="hold")
            found.append(
                Keyframe(time=following.time - min(_FADE_IN_S, gap / 2), emotion=key.emotion, ease="cosine")
            )
    return found


def warped_content(
    content: SpeechContent, time_map: TimeMap, loudness: Float[np.ndarray, "frame"]
) -> SpeechContent:
    """What is said, moved along a time map; `loudness` is that of the sound as it will be heard, one value a frame."""
    frames = len(loudness)
    at = np.clip(
        time_map.to_source(np.arange(frames) / content.fps) * content.fps, 0, max(len(content) - 1, 0)
    )
    low = at.astype(np.int64)
    high, share = np.minimum(low + 1, len(content) - 1), (at - low).astype(np.float32)

    def moved(values: np.ndarray) -> np.ndarray:
        part = share[:, None] if values.ndim == 2 else share
        return ((1 - part) * values[low] + part * values[high]).astype(np.float32)

    return SpeechContent(
        fps=content.fps,
        phones=moved(content.phones),
        closure=moved(content.closure),
        loudness=loudness.astype(np.float32),
        speaking=moved(content.speaking),
    )


def warped_phones(phones: Sequence[TimedPhone], time_map: TimeMap) -> tuple[TimedPhone, ...]:
    """Timed phones moved along a time map."""

    def moved(seconds: float) -> float:
        return float(time_map.to_output(seconds))

    return tuple(
        replace(
            phone,
            start=moved(phone.start),
            end=moved(phone.end),
            release=None if phone.release is None else moved(phone.release),
        )
        for phone in phones
    )


def speaker_content(lines: Sequence[PlacedLine], seconds: float) -> SpeechContent:
    """What one speaker says over the whole timeline; silence between the lines."""
    frames = int(np.ceil(seconds * CONTENT_FPS - 1e-6))
    phones = np.zeros((frames, len(PHONES)), np.float32)
    phones[:, PHONE_INDEX[SILENCE]] = 1.0
    flat = {name: np.zeros(frames, np.float32) for name in ("closure", "loudness", "speaking")}
    for line in lines:
        first = round(line.start * CONTENT_FPS)
        part = line.spoken.content.sliced(0, max(frames - first, 0))
        phones[first : first + len(part)] = part.phones
        for name, curve in flat.items():
            curve[first : first + len(part)] = getattr(part, name)
    return SpeechContent(fps=CONTENT_FPS, phones=phones, **flat)


def speaker_phones(lines: Sequence[PlacedLine]) -> tuple[TimedPhone, ...] | None:
    """The timed phones of one speaker over the whole timeline; None unless the words of every line are known."""
    found: list[TimedPhone] = []
    for line in lines:
        if line.spoken.phones is None:
            return None
        for phone in line.spoken.phones:
            release = None if phone.release is None else phone.release + line.start
            found.append(
                replace(phone, start=phone.start + line.start, end=phone.end + line.start, release=release)
            )
    return tuple(found)
