"""Files made to harm: they swell, point elsewhere, or mean something to another program. What others test is not repeated:
names that climb out (tests/apps/batch/test_manifest.py, test_thirty_bad_inputs.py), aliases (tests/scene/test_loading.py),
pickles that run code (tests/weights/test_pull.py), sound and pictures that unpack to hours and gigapixels (tests/media).
"""

import csv
import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affetto.apps.batch.manifest import read_manifest
from affetto.conditioning.calibration import Calibration
from affetto.conditioning.formats import emotionml, load_track, reading
from affetto.conditioning.formats.table import write as table_of
from affetto.conditioning.track import MAX_KEYFRAMES, EmotionTrack
from affetto.generators.portrait.full.prepare_videos import COLUMNS, _write_index
from affetto.generators.portrait.landmark_files import read_landmarks
from affetto.generators.voice.time_map import TimeMap
from affetto.head.transfer import load_landmarks
from affetto.media.animation import curve_files
from affetto.media.animation.files import load_curves
from affetto.media.audio import load_audio
from affetto.media.cells import cell_of, text_of
from affetto.media.image import load_image
from affetto.media.mesh import load_mesh
from affetto.media.midi import load_midi
from affetto.media.notes import read_note
from affetto.media.video import probe_video
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.weights.tensors import read_checkpoint

FORMULA = ("=", "+", "-", "@", "\t", "\r")
MIB = 1 << 20


@contextmanager
def costing(seconds: float, mib: float):
    """Fails when the block takes longer, or more of Python's and numpy's memory at once."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < mib * MIB, f"{peak / MIB:.0f} MiB"
    assert time.process_time() - began < seconds


def is_harmless(cell: str) -> bool:
    """Whether a spreadsheet shows a cell rather than computing it."""
    try:
        float(cell)
    except ValueError:
        return not cell.startswith(FORMULA)
    return True


# Cells that are formulas.


@given(st.text(max_size=20) | st.sampled_from(["=1+1", "'=1", "''@x", "-5", "'-5", "+", "\t=1", "=cmd|' /C calc'!A0"]))  # fmt: skip
def test_text_in_cells_is_no_formula_and_reads_back(text):
    assert is_harmless(cell_of(text))
    assert text_of(cell_of(text)) == text


def test_the_index_of_prepared_videos_holds_no_formula(tmp_path):
    row = dict.fromkeys(COLUMNS, "=HYPERLINK(1)") | {"level": 2, "frames": 50, "emotion": "happy"}
    _write_index(tmp_path / "index.csv", [row])
    (written,) = csv.DictReader(io.StringIO((tmp_path / "index.csv").read_text()))
    assert all(is_harmless(cell) for cell in written.values())
    assert {name: text_of(cell) for name, cell in written.items()} == {k: str(v) for k, v in row.items()}


def test_tables_of_tracks_hold_no_formula_whatever_the_emotions():
    track = EmotionTrack.parse(
        "0:vad(-0.5,-1,-0.25); 1:happy:0.5+sad:0.5@0.3; 2:angry~hold; 3:sad~bezier(0.1,0,0.5,1)"
    )
    cells = [cell for row in csv.reader(io.StringIO(table_of(track))) for cell in row]
    assert "-0.5" in cells  # a number, not text
    assert all(is_harmless(cell) for cell in cells)


def test_what_a_spreadsheet_protected_in_a_manifest_is_meant_without_the_apostrophe(tmp_path):
    (tmp_path / "jobs.csv").write_text("generator,id,output\nmusic,'=first,a.mid\nmusic,'said,b.mid\n")
    jobs = read_manifest(tmp_path / "jobs.csv").jobs
    assert [job.id for _, job in jobs] == ["=first", "'said"]


# Tracks that are too large.


def _oversized(suffix: str, count: int) -> str:
    times = [n / 2 for n in range(count)]
    if suffix == ".json":
        return json.dumps({"affetto": "emotion/1", "keys": [{"t": t, "emotion": "sad"} for t in times]})
    if suffix == ".csv":
        return "time,label\n" + "".join(f"{t},sad\n" for t in times)
    if suffix == ".vtt":
        stamps = [f"{int(t) // 3600:02d}:{int(t) // 60 % 60:02d}:{t % 60:06.3f}" for t in times]
        return "WEBVTT\n\n" + "".join(f"{s} --> {s}\n[emotion: sad~hold]\n\n" for s in stamps)
    head = '<emotionml version="1.0" xmlns="http://www.w3.org/2009/10/emotionml" category-set="http://www.w3.org/TR/emotion-voc/xml#big6">'  # fmt: skip
    items = "".join(f'<emotion start="{500 * n}"><category name="sadness"/></emotion>' for n in range(count))
    return f"{head}{items}</emotionml>"


@pytest.mark.parametrize("suffix", [".json", ".csv", ".vtt", ".xml"])
def test_a_track_of_too_many_keyframes_is_refused_as_soon_as_they_are_too_many(tmp_path, suffix, monkeypatch):
    most = MAX_KEYFRAMES
    if suffix != ".json":  # the others count while they read, and the counting is what is tested
        most = 300
        monkeypatch.setattr(reading, "MAX_KEYFRAMES", most)
        monkeypatch.setattr(emotionml, "MAX_KEYFRAMES", most)
    path = tmp_path / f"a{suffix}"
    path.write_text(_oversized(suffix, most + 1))
    with pytest.raises(InvalidInputError, match=rf"a{suffix}.*{most}") as refusal:
        load_track(path)
    assert "\n" not in str(refusal.value)


def test_deep_json_is_refused_in_one_line(tmp_path):
    readers = {
        "a.json": load_track, "b.json": load_curves, "c.json": Calibration.load, "d.json": TimeMap.load,
        "e.json": load_landmarks, "f.json": lambda path: read_landmarks(path, (100, 100)),
    }  # fmt: skip
    for name, load in readers.items():
        path = tmp_path / name
        path.write_text("[" * 200_000)
        with costing(2.0, 50), pytest.raises(InvalidInputError, match=name) as refusal:
            load(path)
        assert "\n" not in str(refusal.value)


# Archives that swell.


def _npy(header: str, body: bytes = b"") -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body


def _zeros(count: int) -> bytes:
    return _npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}", bytes(count))


def test_an_archive_that_unpacks_to_more_than_curves_have_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr(curve_files, "MAX_BYTES", 16 * MIB)
    path, chunk = tmp_path / "a.npz", bytes(4 * MIB)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("weights", "head", "eyes"):
            with file.open(f"{name}.npy", "w") as member:
                for _ in range(8):
                    member.write(chunk)
    assert path.stat().st_size < MIB // 4
    with costing(1.0, 20), pytest.raises(InvalidInputError, match=r"a\.npz: unpacks to 96 MiB"):
        load_curves(path)


def test_an_archive_whose_directory_tells_too_little_gives_no_more_than_it_tells(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("weights.npy", _zeros(64 * MIB))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 300)  # its size, as the directory tells it
    data[22:26] = struct.pack("<I", 300)
    path.write_bytes(data)
    with costing(1.0, 20), pytest.raises(InvalidInputError, match=r"a\.npz"):
        load_curves(path)


def test_entries_that_share_their_bytes_count_each_for_themselves(tmp_path):
    """The kernel of "a better zip bomb": one compressed stream, named again and again."""
    path = tmp_path / "a.npz"
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = packed.compress(_zeros(8 * MIB)) + packed.flush()
    crc, count = zlib.crc32(_zeros(8 * MIB)), 400
    local = (
        struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(stream), 8 * MIB + 128, 5, 0)
        + b"a.npy"
    )
    head = b"".join(
        struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(stream), 8 * MIB + 128, 5, 0, 0, 0, 0, 0, 0) + b"a.npy"
        for _ in range(count)
    )  # fmt: skip
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(head), len(local + stream), 0)
    path.write_bytes(local + stream + head + end)
    with costing(1.0, 20), pytest.raises(InvalidInputError, match=r"a\.npz: unpacks to 3200 MiB"):
        load_curves(path)


# Pickles that swell: the process that reads them has limits, and only tensors come out of it.


def _doubling(depth: int) -> list:
    held: list = []
    for _ in range(depth):
        held = [held, held]
    return held


@pytest.mark.parametrize("zipped", [True, False])
def test_lists_that_hold_each_other_without_end_stay_small(tmp_path, zipped):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2), "x": _doubling(400)}, path, _use_new_zipfile_serialization=zipped)
    began = time.monotonic()
    assert {name: tensor.tolist() for name, tensor in read_checkpoint(path).items()} == {"w": [1.0, 1.0]}
    assert time.monotonic() - began < 10


GREEDY = {
    "a memory of four thousand million places": b"\x80\x04Nr\xff\xff\xff\xfe.",
    "a frame of a terabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "a number of a gigabyte": b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b"\1",
    "a list in a list, a million deep": b"\x80\x04" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_pickle_that_asks_for_much_is_ended_in_one_line(tmp_path, name):
    path = tmp_path / "a.pkl"
    path.write_bytes(GREEDY[name])
    with pytest.raises(InvalidInputError, match=r"a\.pkl: .*download it again") as refusal:
        read_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_a_pickle_inside_an_array_file_is_read_by_the_same_rules(tmp_path):
    class Runs:
        def __reduce__(self):
            return print, ("ran",)

    path = tmp_path / "a.npy"
    np.save(path, np.array({"w": Runs()}, object), allow_pickle=True)
    with pytest.raises(InvalidInputError, match=r"builtins\.print, which no weights need"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps({"w": Runs()}))
    with pytest.raises(InvalidInputError, match=r"builtins\.print, which no weights need"):
        read_checkpoint(path)


# Links and names that lead elsewhere.


def test_writing_to_a_link_replaces_the_link_and_not_what_it_points_at(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "out.txt").symlink_to(tmp_path / "kept.txt")
    with atomic_path(tmp_path / "out.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "kept.txt").read_text() == "kept"
    assert (tmp_path / "out.txt").read_text() == "new"
    assert not (tmp_path / "out.txt").is_symlink()


@pytest.mark.parametrize("uri", ["link.bin", "sub/../../secret.bin", "/etc/hostname", "file:///etc/hostname"])
def test_a_mesh_takes_no_part_from_outside_its_folder(tmp_path, uri):
    folder = tmp_path / "mesh"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    document = {
        "asset": {"version": "2.0"}, "nodes": [{"mesh": 0}], "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}], "buffers": [{"uri": uri, "byteLength": 48}],
    }  # fmt: skip
    (folder / "a.gltf").write_text(json.dumps(document))
    with pytest.raises(InvalidInputError, match="is not beside it"):
        load_mesh(folder / "a.gltf")


# Files of nothing but empty parts: a reader that walks through all of them is kept busy for as long as the file is large.

PARTS = 400_000
EMPTY = {
    "a.wav": b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * PARTS,
    "list.wav": b"RIFF\0\0\0\0WAVELIST" + struct.pack("<I", 8 * 250_000 + 4) + b"INFO" + b"junk\0\0\0\0" * 250_000,
    "a.png": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0juNk\0\0\0\0" * PARTS,
    "a.flac": b"fLaC" + b"\x04\0\0\0" * PARTS,
    "a.mp4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0\0\0\x08free" * PARTS,
    "a.mid": b"MThd\0\0\0\6\0\1\0\1\1\xe0" + b"MTrk\0\0\0\0" * PARTS,
    "a.glb": b"glTF" + struct.pack("<II", 2, 12 + 8 * PARTS) + b"\0\0\0\0JUNK" * PARTS,
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_a_file_of_empty_parts_keeps_no_reader_busy(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(EMPTY[name])
    readers = {".wav": load_audio, ".flac": load_audio, ".png": load_image, ".mp4": probe_video, ".mid": load_midi, ".glb": load_mesh}  # fmt: skip
    began = time.process_time()
    assert read_note(path) is None
    with suppress(InvalidInputError):  # an empty score is read
        readers[path.suffix](path)
    assert time.process_time() - began < 1.0
