"""Whether `affetto verify` knows every file that affetto writes: `python benchmarks/verify_all.py DATA [--size 256]`.

DATA is the folder that holds `speech/`. A reader's six seconds and a photograph (of the public domain, as it comes with
matplotlib) go through every command and format, batches and a scene with all its outputs included, as a user would call
them: once with a signing identity (a fresh one, in a folder of its own), once with signing off. Then every file is
verified, then a copy of each with one byte changed in its middle, and at `--places` random places its signature alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affetto.apps.cli.demo import photograph
from affetto.media.audio import Audio, load_audio, save_audio
from affetto.provenance.certificates import signing_identity
from affetto.provenance.manifests import read_manifest, sidecar_path

SPOKEN_S = 6.0
PIECE_S = 8.0
TRACK = "0:neutral; 1.5:happy@0.8; 4:sad"
CALL = "import sys; from affetto.apps.cli import main; sys.exit(main())"
PER_CALL = 300  # files that one call verifies


def affetto(*arguments: str | Path, signing: str) -> str:
    """What the command prints; raises when it fails."""
    environment = {**os.environ, "AFFETTO_SIGN": signing}
    done = subprocess.run(
        [sys.executable, "-c", CALL, *map(str, arguments)],
        env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"affetto {arguments[0]}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def spoken(folder: Path, place: Path) -> Path:
    """Six seconds of one reader."""
    parts, rate, seconds = [], 0, 0.0
    for path in sorted((folder / "speech" / "english_kathleen").rglob("*.flac")):
        audio = load_audio(path)
        parts, rate, seconds = [*parts, audio.mono()], audio.rate, seconds + audio.seconds
        if seconds > SPOKEN_S:
            break
    samples = np.concatenate(parts)[: round(SPOKEN_S * rate)]
    return save_audio(place / "speech.wav", Audio(samples=samples[None], rate=rate))


def outputs(*names: str, folder: Path) -> list[str | Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [part for name in names for part in ("-o", folder / name)]


def make_all(speech: Path, photo: Path, place: Path, *, size: int, signing: str) -> None:
    """Every format of every command, each command in a folder of its own."""

    def call(*arguments: str | Path) -> None:
        affetto(*arguments, "-q", signing=signing)

    voice, face, talk, music = (place / name for name in ("voice", "face", "talk", "music"))
    for name, extras in (
        ("a.wav", ["--time-map", voice / "map.json", "--report", voice / "a.png"]),
        ("a.flac", []),
    ):
        call("voice", speech, "-e", TRACK, *outputs(name, folder=voice), *extras)
    curves = ["a.csv", "a.json", "a.npz", "a.glb", "a.usda", "a.usdc", "a.mp4"]
    call("face", speech, "-e", TRACK, "--size", str(size), *outputs(*curves, folder=face))
    films = [*curves, "a.mov", "frame_%05d.png"]
    call("talk", photo, speech, "-e", TRACK, "--size", str(size), *outputs(*films, folder=talk))
    pieces = ["a.mid", "a.wav", "a.png"]
    call("music", "-e", TRACK, "--seconds", str(PIECE_S), "--stems", *outputs(*pieces, folder=music))
    render(speech, photo, place, size=size, signing=signing)
    batch(speech, photo, place, size=size, signing=signing)


def render(speech: Path, photo: Path, place: Path, *, size: int, signing: str) -> None:
    """A scene with everything that scenes can write."""
    from affetto.scene.model import OUTPUTS

    scene = {
        "title": "All", "size": size, "outputs": [*OUTPUTS], "music": {},
        "speech": {"audio": str(speech), "text": "What he says does not matter here.", "emotion": TRACK},
        "speaker": {"portrait": {"image": str(photo)}},
    }  # fmt: skip
    file = place.parent / f"scene-{signing}.json"
    file.write_text(json.dumps(scene))
    affetto("render", file, "-o", place / "render", "-q", signing=signing)


def batch(speech: Path, photo: Path, place: Path, *, size: int, signing: str) -> None:
    """A job of each generator, with the recipe beside it."""
    spoken = {"audio": str(speech), "emotion": "happy@0.7", "seed": 1}
    jobs = [
        {"generator": "face", **spoken, "output": "face.csv"},
        {"generator": "voice", **spoken, "output": "voice.wav"},
        {"generator": "music", "emotion": "calm", "seconds": PIECE_S, "output": "music.mid"},
        {"generator": "talk", "portrait": str(photo), "size": size, **spoken, "output": "talk.mp4"},
    ]
    manifest = place.parent / f"jobs-{signing}.jsonl"
    manifest.write_text("".join(json.dumps(job) + "\n" for job in jobs))
    affetto("batch", "run", manifest, "-o", place / "batch", "-q", signing=signing)


def written(place: Path) -> list[Path]:
    """What the commands wrote, without the manifests that lie beside and what a batch knows of its jobs."""
    files = (path for path in sorted(place.rglob("*")) if path.is_file() and ".affetto" not in path.parts)
    return [path for path in files if path.suffix != ".c2pa"]


def verdicts(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(files), PER_CALL):
        told = affetto("verify", *files[start : start + PER_CALL], "--json", signing="auto")
        yield from json.loads(told)["files"]


def changed_copy(path: Path, place: Path, root: Path) -> Path:
    """A copy of a file, with what lies beside it, whose middle byte is another."""
    copy = place / path.relative_to(root)
    copy.parent.mkdir(parents=True, exist_ok=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(bytes(content))
    if sidecar_path(path).is_file():
        shutil.copyfile(sidecar_path(path), sidecar_path(copy))
    return copy


def noticed(path: Path, place: Path, *, places: int) -> int:
    """At how many of so many random places a changed byte breaks the signature, or removes it."""
    copy, content = changed_copy(path, place, path.parent), path.read_bytes()
    chance, found = np.random.default_rng(len(content)), 0
    for at in chance.integers(0, len(content), places):
        altered = bytearray(content)
        altered[at] ^= 1 << int(chance.integers(0, 8))
        copy.write_bytes(bytes(altered))
        found += read_manifest(copy).state in ("invalid", "none")
    return found


@dataclass(kw_only=True)
class Row:
    """What was found in all files of a kind."""

    files: int = 0
    made: int = 0
    signed: int = 0
    marked: int = 0
    told: int = 0
    changed: int = 0  # of copies with another byte, how many are noticed
    places: int = 0  # of random places, at how many it is
    tried: int = 0
    where: set[str] = field(default_factory=set)
    plain: list[str] = field(default_factory=list)  # what each file tells with signing off


def kind_of(path: Path, place: Path) -> str:
    """Such as `face .csv`; frames and stems are one kind."""
    return f"{path.relative_to(place).parts[0]} {''.join(path.suffixes)}"


def is_marked(verdict: Mapping[str, Any]) -> bool:
    return any((verdict[mark] or {}).get("marked") for mark in ("sound_mark", "picture_mark"))


def tells(verdict: Mapping[str, Any]) -> str:
    """The strongest that is known of a file without a signature."""
    if is_marked(verdict):
        return "mark"
    if verdict["recipe"] is not None:
        return "recipe"
    listed = verdict["listed"] or verdict["lists"]
    return "listed" if listed else "nothing"


def told_of(rows: dict[str, Row], place: Path, scratch: Path, *, places: int) -> None:
    """Fill the rows with what is known of signed files, and of their changed copies."""
    files = written(place)
    copies = [changed_copy(path, scratch / "changed", place) for path in files]
    after = {each["file"]: each for each in verdicts(copies)}
    for path, copy, verdict in zip(files, copies, verdicts(files), strict=True):
        row = rows.setdefault(kind_of(path, place), Row())
        manifest = verdict["manifest"] or {}
        row.files += 1
        row.made += verdict["made_by_affetto"]
        row.signed += manifest.get("state") == "trusted"
        row.where.add(manifest.get("where") or "none")
        row.marked += is_marked(verdict)
        row.told += verdict["recipe"] is not None
        row.changed += after[str(copy)]["changed_since"]
        if row.tried < 4 * places:  # of frames only the first ones
            row.places += noticed(path, scratch, places=places)
            row.tried += places


def table(rows: Mapping[str, Row]) -> Iterator[str]:
    """A row a kind of file, and how many files there are of all."""
    yield "| file | files | made by affetto | signature | mark | recipe | changed byte noticed | with signing off |"
    yield "|---|---|---|---|---|---|---|---|"
    for kind, row in sorted(rows.items()):
        can = kind.rpartition(".")[2] in ("wav", "flac", "mp4", "mov", "png")
        plain = ", ".join(sorted(set(row.plain)))
        yield (
            f"| {kind} | {row.files} | {row.made} | {row.signed}, {' '.join(sorted(row.where))} | {row.marked if can else '-'}"
            f" | {row.told} | {row.changed} of {row.files}; {row.places} of {row.tried} | {plain} |"
        )
    files, made, changed = (
        sum(getattr(row, name) for row in rows.values()) for name in ("files", "made", "changed")
    )
    holds = "holds" if made == changed == files else "MISSED"
    yield f"\n{made} of {files} files of {len(rows)} kinds verify ({100 * made / files:.1f} %), {changed} of {files} changed copies are noticed: {holds}."


def measured(data: Path, *, size: int, places: int) -> Iterator[str]:
    """The lines of the table."""
    with tempfile.TemporaryDirectory(prefix="affetto-verify-") as folder:
        base = Path(folder)
        os.environ["AFFETTO_HOME"] = str(base / "home")
        signing_identity()
        speech, photo = spoken(data, base), Path(shutil.copy(photograph(), base / "photo.jpg"))
        rows: dict[str, Row] = {}
        for signing in ("auto", "never"):
            make_all(speech, photo, base / signing, size=size, signing=signing)
        told_of(rows, base / "auto", base, places=places)
        files = written(base / "never")
        for path, verdict in zip(files, verdicts(files), strict=True):
            rows[kind_of(path, base / "never")].plain.append(tells(verdict))
        yield from table(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=256, help="Pixels a side of pictures.")
    parser.add_argument("--places", type=int, default=25, help="Random places at which a byte is changed.")
    options = parser.parse_args()
    for line in measured(options.data, size=options.size, places=options.places):
        print(line, flush=True)
