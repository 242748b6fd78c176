"""What is said in a scene: each turn as sound with its words and its course of emotion, before anything is changed."""

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from affetto.conditioning.encoders.text import TextEncoder
from affetto.conditioning.track import EmotionTrack, Keyframe
from affetto.media.audio import Audio, load_audio
from affetto.media.shelf import Shelf
from affetto.runtime.errors import InvalidInputError, error_of
from affetto.scene.model import SUGGEST, Scene, Speaker, Spoken, Turn
from affetto.scene.reply import Answer, answer
from affetto.speech.g2p import script
from affetto.speech.phones import SILENCE, TimedPhone

_EARLY_S, _TURN_S = 0.1, 0.4  # a feeling shows just before its words; how long it takes to change
_NEAR = 2  # phones by which a text's pronunciation may differ from its sentences'

_SPEAK = """
import json, sys
import numpy as np
from affetto.generators.voice.text_source import speak_text
from affetto.runtime.errors import AffettoError
try:
    audio = speak_text(**json.load(sys.stdin))
except AffettoError as error:
    sys.stderr.write(str(error))
    sys.exit(error.exit_code)
sys.stdout.buffer.write(np.int64(audio.rate).tobytes() + audio.samples.tobytes())
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One turn: where it stands in the scene, its sound, words and emotion (seconds of the sound)."""

    shot: int
    turn: Turn
    audio: Audio
    words: str | None
    track: EmotionTrack
    answer: Answer | None = None

    @property
    def speaker(self) -> str:
        """Who says it."""
        return self.turn.speaker


def read_lines(scene: Scene, base: Path, shelf: Shelf | None = None) -> list[Line]:
    """All turns of a scene in order, recordings read and texts spoken; emotions to be suggested wait for the words' times.

    Their sound lies on the shelf when there is one.
    """
    lines = []
    for number, shot in enumerate(scene.shot_list):
        for index, turn in enumerate(shot.turns):
            speaker = scene.speakers[turn.speaker]
            line = _line(scene, speaker, number, turn, base, seed=scene.seed + 97 * number + index)
            lines.append(line if shelf is None else replace(line, audio=kept(line.audio, shelf)))
    return lines


def kept(audio: Audio, shelf: Shelf) -> Audio:
    """The same sound on a shelf."""
    return replace(audio, samples=shelf.keep(audio.samples))


def _line(scene: Scene, speaker: Speaker, shot: int, turn: Turn, base: Path, *, seed: int) -> Line:
    found: Answer | None = None
    words, asked = turn.text, turn.emotion or scene.emotion
    if turn.reply is not None:
        found = answer(turn.reply, seed=seed)
        words = found.text
        asked = turn.emotion or found.emotion
    if turn.audio is not None:
        audio = load_audio(base / turn.audio)
    else:
        assert words is not None
        audio = speak(words, turn.language, speaker.tts)
    track = EmotionTrack.parse("neutral") if asked == SUGGEST else read_track(asked, base)
    return Line(shot=shot, turn=turn, audio=audio, words=words, track=track, answer=found)


def read_track(text: str, base: Path) -> EmotionTrack:
    """The track a text or a file (relative to `base`) gives."""
    from affetto.scene.model import is_track_file

    return EmotionTrack.parse(str(base / text) if is_track_file(text) else text)


def wants_suggestion(scene: Scene, line: Line) -> bool:
    """Whether a line's emotion shall be read from its words."""
    asked = line.turn.emotion or (line.answer.emotion if line.answer else scene.emotion)
    return asked == SUGGEST


def speak(text: str, language: str, how: Spoken) -> Audio:
    """A text as espeak-ng says it, in a process of its own: the same text always sounds the same."""
    request = {"text": text, "language": language, "voice": how.voice, "wpm": how.words_per_minute}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _SPEAK],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = told[-1] if told else f"espeak-ng ended with {done.returncode}"
        code = done.returncode
        raise error_of(InvalidInputError.exit_code if code == 2 else code, reason)  # the scene's own text
    rate = int(np.frombuffer(done.stdout[:8], np.int64)[0])
    samples = np.frombuffer(done.stdout[8:], np.float32)[None].copy()
    return Audio(samples=samples, rate=rate)


def sentences(text: str) -> list[str]:
    """The sentences of a text, with their punctuation."""
    found, start = [], 0
    for index, letter in enumerate(text):
        ends = letter in ".!?…\n" and (index + 1 == len(text) or text[index + 1].isspace())
        if ends:
            found.append(text[start : index + 1].strip())
            start = index + 1
    found.append(text[start:].strip())
    return [sentence for sentence in found if any(letter.isalnum() for letter in sentence)]


def sentence_times(
    text: str, seconds: float, phones: Sequence[TimedPhone] | None, language: str = "en-us"
) -> list[tuple[float, float, str]]:
    """Start and end in seconds of each sentence: by its phones where those of the whole are timed, else by its letters."""
    parts = sentences(text)
    if not parts:
        return []
    spoken = [phone for phone in phones or () if phone.phone != SILENCE]
    if not spoken:
        edges = np.cumsum([0, *(max(sum(map(str.isalnum, part)), 1) for part in parts)]) * (
            1.0 / max(len(text), 1)
        )
        shares = edges / edges[-1] * seconds
        return [(float(a), float(b), part) for a, b, part in zip(shares, shares[1:], parts, strict=False)]
    counts = np.cumsum([0, *(len(script(part, language).phones) for part in parts)])
    marks = np.clip(np.round(counts / max(counts[-1], 1) * len(spoken)).astype(int), 0, len(spoken))
    gaps = np.array([after.start - before.end for before, after in itertools.pairwise(spoken)] or [0.0])
    for index in range(1, len(marks) - 1):  # a pause next to the count is where the sentence really ends
        low, high = max(marks[index] - _NEAR, 1), min(marks[index] + _NEAR, len(spoken) - 1)
        if high > low and gaps[low - 1 : high].max() > 0.02:
            marks[index] = low + int(gaps[low - 1 : high].argmax())
    starts = [spoken[min(at, len(spoken) - 1)].start for at in marks[:-1]]
    ends = [spoken[max(at - 1, 0)].end for at in marks[1:]]
    return [(float(a), float(max(b, a + 0.05)), part) for a, b, part in zip(starts, ends, parts, strict=True)]


def suggested(text: str, times: Sequence[tuple[float, float, str]]) -> EmotionTrack:
    """The emotions of the sentences as a track; each is held, and turns into the next just before that begins."""
    encoder = TextEncoder()
    keys: list[Keyframe] = []
    for start, _, sentence in times:
        at = round(max(start - _EARLY_S, 0.0), 3)
        if keys:
            leave = round(max(at - _TURN_S, 0.5 * (keys[-1].time + at)), 3)
            if not keys[-1].time < leave < at:
                continue
            keys.append(Keyframe(time=leave, emotion=keys[-1].emotion, ease="cosine"))
        keys.append(Keyframe(time=at, emotion=encoder(sentence), ease="hold"))
    return EmotionTrack(keyframes=tuple(keys)) if keys else EmotionTrack.constant(encoder(text))
