"""What a finished render gives the stage to show: its media, its waveform, notes and beats, and how its time runs."""

import itertools
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from affetto.apps.studio.project import Project, loudness_peaks, read_recipe_project
from affetto.media.audio import probe_audio

RESULT_VIDEOS = ("video.mp4", "talking.mp4", "head.mp4")  # the first that is there is shown
RESULT_SOUNDS = ("mix.wav", "voice.wav")
_NOTES, _BEATS = 4000, 2000


def url(path: Path) -> str:
    """Where the page finds a file of the studio's home; a change of the file changes the address."""
    return f"/gradio_api/file={quote(path.as_posix())}?{path.stat().st_mtime_ns}"


def staged(folder: Path) -> dict[str, Any]:
    """The value of the stage's widget for the render in a folder, all but its words."""
    video = next((folder / name for name in RESULT_VIDEOS if (folder / name).is_file()), None)
    sound = next((folder / name for name in RESULT_SOUNDS if (folder / name).is_file()), None)
    project = read_recipe_project(folder)
    title = "render" if project is None else project.title or "render"
    value: dict[str, Any] = {
        "render": folder.name,
        "title": f"{title} {int(folder.name)}" if folder.name.isdecimal() else title,
        "duration": 0.0,
    }
    if sound is not None:
        peaks, seconds = loudness_peaks(sound)
        value |= {"audio": url(sound), "peaks": peaks, "peaksSeconds": seconds, "duration": seconds}
    if video is not None:
        value["video"] = url(video)
    if (folder / "face.glb").is_file():
        value["glb"] = url(folder / "face.glb")
    if (folder / "score.mid").is_file():
        value |= _music(folder / "score.mid")
    if project is not None:
        value["warp"] = warp(folder, project)
    return value


def warp(folder: Path, project: Project) -> list[list[float]]:
    """Pairs of a moment of the recording and the moment of the render it became, both rising; empty where they are the same.

    A converted voice may speak slower or faster. A render's course of emotion has the project's keys where they have moved to,
    and after them one at the end of the speech.
    """
    file, speech = folder / "emotion.emotion.json", folder.parents[1] / (project.speech or "-")
    if not (file.is_file() and speech.is_file()):
        return []
    moved = [float(key["t"]) for key in json.loads(file.read_text(encoding="utf-8"))["keys"]]
    asked = sorted(key.t for key in project.keys)
    if len(moved) not in (len(asked), len(asked) + 1):
        return []
    pairs = list(zip(asked, moved, strict=False))
    if asked[0] > 0:
        pairs.insert(0, (0.0, 0.0))
    seconds = probe_audio(speech, max_seconds=None).seconds
    if len(moved) > len(asked) and seconds > asked[-1]:
        pairs.append((seconds, moved[-1]))
    rising = all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))
    if len(pairs) < 2 or not rising or all(abs(a - b) < 0.01 for a, b in pairs):
        return []
    return [[round(a, 4), round(b, 4)] for a, b in pairs]


def _music(path: Path) -> dict[str, Any]:
    """Start and length in seconds, pitch and velocity of each note, drums left out; and the seconds of the beats."""
    import numpy as np

    from affetto.media.midi import load_midi  # symusic: only where there is music

    score = load_midi(path)
    notes = [[round(float(x), 3) for x in row] for row in score.timed_notes()[:_NOTES]]
    beats = score.seconds_of(np.arange(min(int(score.beats) + 1, _BEATS), dtype=np.float64))
    return {"notes": notes, "beats": [round(float(beat), 3) for beat in beats]}
