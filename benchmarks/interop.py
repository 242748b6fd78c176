"""Do others read what a scene becomes? `python benchmarks/interop.py [FOLDER]` (without one the demo is rendered first).

FOLDER holds the output of `affetto render` or `affetto demo`. Every file is opened by a program that is not ours:
OpenTimelineIO (.otio, .edl), mido and pretty_midi (.mid), trimesh and pygltflib (.glb), usd-core (.usda), PyAV (.mp4),
soundfile (.wav), json (recipe). Prints what each found beside what was made; exit code 1 when something differs.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one reader says of one file, and what it should say; numbers may differ by `within`."""

    file: str
    reader: str
    what: str
    found: float | str
    wanted: float | str
    within: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether it says so."""
        if isinstance(self.found, str) or isinstance(self.wanted, str):
            return self.found == self.wanted
        return abs(self.found - self.wanted) <= self.within


def timelines(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """Tracks, lengths and markers of the OpenTimelineIO file and of the edit list."""
    import opentimelineio as otio

    read = otio.adapters.read_from_file(str(folder / "timeline.otio"))
    picture = next(track for track in read.tracks if track.kind == "Video")
    yield Found(file="timeline.otio", reader="OpenTimelineIO", what="seconds of picture",
                found=picture.duration().to_seconds(), wanted=seconds, within=0.5 / fps)  # fmt: skip
    missing = [
        clip.media_reference.target_url
        for clip in read.find_clips()
        if not (folder / clip.media_reference.target_url).is_file()
    ]
    yield Found(file="timeline.otio", reader="OpenTimelineIO", what="media that are not there", found=len(missing), wanted=0)  # fmt: skip
    edits = otio.adapters.read_from_file(str(folder / "timeline.edl"), rate=fps)
    yield Found(file="timeline.edl", reader="its CMX 3600 adapter", what="seconds of picture",
                found=edits.duration().to_seconds(), wanted=seconds, within=0.5 / fps)  # fmt: skip


def notes(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """Length and notes of the score by two readers; the emotion as controllers."""
    import mido
    import pretty_midi

    score = mido.MidiFile(folder / "score.mid")
    struck = sum(message.type == "note_on" and message.velocity > 0 for message in score)
    other = pretty_midi.PrettyMIDI(str(folder / "score.mid"))
    yield Found(
        file="score.mid", reader="mido", what="seconds", found=score.length, wanted=seconds, within=1.5
    )
    yield Found(file="score.mid", reader="mido, pretty_midi", what="notes of both", found=struck,
                wanted=sum(len(part.notes) for part in other.instruments))  # fmt: skip
    controls = [m for m in mido.MidiFile(folder / "emotion.mid") if m.type == "control_change"]
    yield Found(file="emotion.mid", reader="mido", what="controllers", found=str(sorted({m.control for m in controls})),
                wanted="[20, 21, 22, 23]")  # fmt: skip


def faces(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """Meshes, shapes and the animation's length of the head; the curves' table."""
    import pygltflib
    import trimesh

    document = pygltflib.GLTF2().load(str(folder / "face.glb"))
    assert document is not None
    whole = trimesh.load(folder / "face.glb")
    yield Found(file="face.glb", reader="trimesh", what="meshes", found=len(whole.geometry), wanted=len(document.meshes))  # pyright: ignore[reportAttributeAccessIssue]  # fmt: skip
    names = {name for mesh in document.meshes for name in (mesh.extras or {}).get("targetNames", [])}
    yield Found(file="face.glb", reader="pygltflib", what="jawOpen among the shapes", found=str("jawOpen" in names), wanted="True")  # fmt: skip
    inputs = [sampler.input for each in document.animations for sampler in each.samplers]
    times = [(document.accessors[index].max or [0.0])[0] for index in inputs if index is not None]
    yield Found(file="face.glb", reader="pygltflib", what="seconds of animation", found=max(times), wanted=seconds, within=1.5 / fps)  # fmt: skip
    with (folder / "face.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    yield Found(
        file="face.csv", reader="csv", what="seconds", found=len(rows) / fps, wanted=seconds, within=0.5 / fps
    )
    yield Found(file="face.csv", reader="csv", what="JawOpen within 0..1",
                found=str(all(0 <= float(row["JawOpen"]) <= 1 for row in rows)), wanted="True")  # fmt: skip


def courses(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """The emotion as USD attributes and as a table: the same values."""
    from pxr import Usd

    stage = Usd.Stage.Open(str(folder / "emotion.usda"))  # pyright: ignore[reportAttributeAccessIssue]
    valence = next(
        prim.GetAttribute("affetto:valence")
        for prim in stage.Traverse()
        if prim.HasAttribute("affetto:valence")
    )
    yield Found(file="emotion.usda", reader="usd-core", what="samples of valence", found=valence.GetNumTimeSamples(), wanted=round(seconds * fps))  # fmt: skip
    with (folder / "emotion.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    middle = len(rows) // 2
    row = {name: float(rows[middle][name]) for name in ("time", "valence", "intensity")}
    yield Found(file="emotion.usda", reader="usd-core, csv", what="valence half-way, of both",
                found=float(valence.Get(row["time"] * stage.GetTimeCodesPerSecond())), wanted=row["valence"] * row["intensity"], within=0.02)  # fmt: skip


def pictures(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """Every video decoded to its end: frames, and the sound's length."""
    import av

    for path in sorted(folder.glob("*.mp4")):
        with av.open(str(path)) as video:
            frames = sum(1 for _ in video.decode(video=0))
        with av.open(str(path)) as video:
            sound = sum(frame.samples for frame in video.decode(audio=0)) / video.streams.audio[0].rate
        yield Found(file=path.name, reader="PyAV", what="frames", found=frames, wanted=round(seconds * fps))
        yield Found(
            file=path.name, reader="PyAV", what="seconds of sound", found=sound, wanted=seconds, within=0.05
        )


def sounds(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """Lengths of all sounds."""
    import soundfile

    for path in sorted(folder.glob("*.wav")):
        info = soundfile.info(str(path))
        longer = 3.0 if path.name == "music.wav" else 0.0  # the last chord rings on
        yield Found(file=path.name, reader="soundfile", what="seconds", found=info.duration, wanted=seconds + longer / 2, within=0.01 + longer / 2)  # fmt: skip


def recipe(folder: Path, seconds: float, fps: float) -> Iterator[Found]:
    """The recipe as JSON names the files that lie here."""
    told = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    gone = [name for name in told["outputs"] if not (folder / name).is_file()]
    yield Found(file="recipe.json", reader="json", what="files that are not there", found=len(gone), wanted=0)


READERS: tuple[tuple[tuple[str, ...], Callable[[Path, float, float], Iterator[Found]]], ...] = (
    (("timeline.otio", "timeline.edl"), timelines),
    (("score.mid", "emotion.mid"), notes),
    (("face.glb", "face.csv"), faces),
    (("emotion.usda", "emotion.csv"), courses),
    (("mix.wav",), sounds),
    (("recipe.json",), recipe),
)


def read(folder: Path, seconds: float, fps: float) -> list[Found]:
    """What all readers find in a folder of outputs whose scene lasts so long."""
    found = [each for names, reader in READERS if all((folder / name).is_file() for name in names)
             for each in reader(folder, seconds, fps)]  # fmt: skip
    return found + list(pictures(folder, seconds, fps))


def main() -> int:
    """Render the demo if need be, and the table."""
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--fps", type=float, default=25.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder
        if folder is None:
            from affetto.apps.cli import main as affetto

            folder = Path(scratch) / "demo"
            if affetto(["demo", "-o", str(folder), "-q"]):
                return 1
        found = read(folder, soundfile.info(str(folder / "mix.wav")).duration, asked.fps)
    print("| file | reader | what | found | made | agree |\n|---|---|---|---|---|---|")
    for each in found:
        shown = [
            round(value, 3) if isinstance(value, float) else value for value in (each.found, each.wanted)
        ]
        print(
            f"| {each.file} | {each.reader} | {each.what} | {shown[0]} | {shown[1]} | {'yes' if each.agrees else '**no**'} |"
        )
    return 0 if all(each.agrees for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
