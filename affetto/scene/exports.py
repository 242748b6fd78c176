"""The emotion and the words of a scene as files that other programs read: subtitles, tables, controllers, USD."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affetto.conditioning.formats import save_track
from affetto.conditioning.track import EmotionTrack
from affetto.media.midi import CONTROL, Score, TrackInfo, save_midi
from affetto.runtime.files import atomic_path
from affetto.scene.timeline import Timeline

CONTROLS = {"valence": 20, "arousal": 21, "dominance": 22, "intensity": 23}
"""MIDI controllers of the emotion: -1..1 as 0..127 (64 is 0), the intensity 0..1 as 0..127."""

_CONTROL_FPS = 20.0
_LETTERS = 84  # of a cue: two lines


def cue_times(timeline: Timeline, *, alone: bool) -> list[tuple[float, float, str, str, str]]:
    """Start, stop, speaker ('' when alone), emotion and words of every cue, in the order they are spoken."""
    cues = []
    for line in timeline.lines:
        for start, stop, words in line.spoken.cues:
            middle = line.start + 0.5 * (start + stop)
            name = "" if alone else line.speaker
            pieces = _lines_of(words)
            sizes = np.cumsum([0, *(len(piece) for piece in pieces)]) / max(sum(map(len, pieces)), 1)
            for piece, low, high in zip(pieces, sizes, sizes[1:], strict=False):
                begin, end = (line.start + start + (stop - start) * float(share) for share in (low, high))
                cues.append((begin, end, name, _feeling(timeline, line.speaker, middle), piece))
    return sorted(cues)


def _feeling(timeline: Timeline, speaker: str, time: float) -> str:
    """The strongest name of what is felt, with its strength, such as `happy 0.8`."""
    emotion = timeline.tracks[speaker, "scene"].at(time)
    name = max(emotion.named().items(), key=lambda item: item[1] * (item[0] != "neutral"))[0]
    if emotion.intensity < 0.1 or name == "neutral":
        return "neutral"
    return f"{name} {emotion.intensity:.1f}"


def _lines_of(words: str) -> list[str]:
    """A sentence cut between words into pieces short enough to be read at once."""
    pieces = [""]
    for word in words.split():
        if pieces[-1] and len(pieces[-1]) + 1 + len(word) > _LETTERS:
            pieces.append("")
        pieces[-1] = f"{pieces[-1]} {word}".strip()
    return pieces


def srt_text(cues: Sequence[tuple[float, float, str, str, str]]) -> str:
    """SubRip with the emotion in brackets, as `affetto emotion convert` reads it back."""
    blocks = []
    for number, (start, stop, name, feeling, words) in enumerate(cues, start=1):
        who = f"{name}: " if name else ""
        blocks.append(
            f"{number}\n{_stamp(start, ',')} --> {_stamp(stop, ',')}\n[emotion: {feeling}] {who}{words}\n"
        )
    return "\n".join(blocks)


def vtt_text(cues: Sequence[tuple[float, float, str, str, str]]) -> str:
    """WebVTT: the speaker as a voice span, the emotion in brackets and as a class, which style sheets can colour."""
    blocks = ["WEBVTT\n"]
    for start, stop, name, feeling, words in cues:
        safe = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        klass = feeling.split(" ")[0]
        body = f"[emotion: {feeling}] <c.{klass}>{safe}</c>"
        blocks.append(
            f"{_stamp(start, '.')} --> {_stamp(stop, '.')}\n{f'<v {name}>' if name else ''}{body}\n"
        )
    return "\n".join(blocks)


def _stamp(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"


def write_subtitles(folder: Path, timeline: Timeline) -> list[Path]:
    """subtitles.srt and subtitles.vtt; none where no words are known."""
    cues = cue_times(timeline, alone=len(timeline.speakers) == 1)
    if not cues:
        return []
    paths = [folder / "subtitles.srt", folder / "subtitles.vtt"]
    for path, text in zip(paths, (srt_text(cues), vtt_text(cues)), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def write_track(
    folder: Path, track: EmotionTrack, seconds: float, fps: float, score: Score | None
) -> list[Path]:
    """emotion.csv (a row a frame), emotion.emotion.json (keyframes), emotion.mid (controllers), emotion.usda (attributes)."""
    table, native = folder / "emotion.csv", folder / "emotion.emotion.json"
    save_track(table, track.resampled(fps, seconds=seconds), overwrite=True)
    save_track(native, track, overwrite=True)
    notes, usd = folder / "emotion.mid", folder / "emotion.usda"
    save_midi(notes, control_score(track, seconds, score))
    with atomic_path(usd) as temporary:
        temporary.write_text(usda_text(track, seconds, fps), encoding="utf-8")
    return [table, native, notes, usd]


def control_score(track: EmotionTrack, seconds: float, score: Score | None = None) -> Score:
    """The emotion as MIDI controllers 20 to 23, twenty times a second, in the tempo map of `score` (else 120 beats a minute)."""
    tempos = score.tempos if score is not None else ((0.0, 120.0),)
    meters = score.meters if score is not None else ((0.0, 4, 4),)
    clock = Score(tempos=tempos, meters=meters)
    times = np.arange(int(np.ceil(seconds * _CONTROL_FPS)) + 1) / _CONTROL_FPS
    batch = track.sample(times)
    columns = np.column_stack(
        [np.round(63.5 * (batch.effective_vad + 1.0)), np.round(127 * np.clip(batch.intensity, 0, 1))]
    ).astype(int)
    rows = []
    beats = clock.beats_of(times)
    for column, number in enumerate(CONTROLS.values()):
        values = columns[:, column]
        changed = np.concatenate([[True], np.diff(values) != 0])
        rows += [(float(beats[i]), 0, number, int(values[i])) for i in np.flatnonzero(changed)]
    marks = tuple(
        (float(clock.beats_of(key.time)), str(key.emotion)) for key in track.keyframes if key.time <= seconds
    )
    return Score(
        tracks=(TrackInfo(name="emotion"),),
        tempos=tempos,
        meters=meters,
        markers=marks if len(marks) <= 1000 else (),
        controls=np.array(sorted(rows), CONTROL),
    )


def usda_text(track: EmotionTrack, seconds: float, fps: float) -> str:
    """A USD layer whose prim /Emotion carries valence, arousal, dominance and intensity as time-sampled custom attributes."""
    frames = max(round(seconds * fps), 1)
    batch = track.sample(np.arange(frames) / fps)
    columns = {
        "valence": batch.effective_vad[:, 0],
        "arousal": batch.effective_vad[:, 1],
        "dominance": batch.effective_vad[:, 2],
        "intensity": batch.intensity[:, 0],
    }
    parts = [
        "#usda 1.0",
        "(",
        '    defaultPrim = "Emotion"',
        "    startTimeCode = 0",
        f"    endTimeCode = {frames - 1}",
        f"    timeCodesPerSecond = {fps:g}",
        f"    framesPerSecond = {fps:g}",
        ")",
        "",
        'def Scope "Emotion"',
        "{",
    ]
    for name, values in columns.items():
        samples = ", ".join(f"{frame}: {value:.5g}" for frame, value in enumerate(values.tolist()))
        parts.append(f"    custom float affetto:{name} = {float(values[0]):.5g}")
        parts.append(f"    float affetto:{name}.timeSamples = {{ {samples} }}")
    return "\n".join([*parts, "}", ""])
