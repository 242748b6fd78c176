import struct

import numpy as np
import pretty_midi
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.media import midi
from affetto.media.midi import (
    CONTROL,
    Score,
    TrackInfo,
    load_midi,
    midi_bytes,
    note_array,
    parse_midi,
    save_midi,
    score_from_symusic,
)
from affetto.runtime.errors import InvalidInputError, UsageError


def chunk(body):
    return b"MTrk" + struct.pack(">I", len(body)) + body


def file(body, *, tracks=1, division=480):
    return b"MThd" + struct.pack(">IHHH", 6, 1, tracks, division) + body


END = b"\x00\xff\x2f\x00"


def example():
    return Score(
        notes=note_array(
            [(0, 1, 60, 64, 0), (1, 0.5, 60, 80, 0), (1, 2, 36, 100, 1), (2.25, 0.25, 72, 20, 0)]
        ),
        tracks=(TrackInfo(name="Lead", program=4), TrackInfo(name="Kit", is_drum=True)),
        tempos=((0.0, 120.0), (2.0, 60.0)),
        meters=((0.0, 3, 4), (3.0, 4, 4)),
        markers=((0.0, "happy"), (2.0, "traurig ä")),
        controls=np.array([(0.5, 0, 64, 127), (1.5, 0, 64, 0)], CONTROL),
    )


def test_what_is_written_is_read_again(tmp_path):
    score = example()
    save_midi(tmp_path / "a.mid", score)
    found = load_midi(tmp_path / "a.mid")
    assert (found.notes == score.notes).all()
    assert (found.controls == score.controls).all()
    assert (found.tracks, found.meters, found.markers) == (score.tracks, score.meters, score.markers)
    assert found.tempos == score.tempos


def test_equal_scores_give_equal_bytes():
    assert midi_bytes(example()) == midi_bytes(example())


def test_two_independent_readers_open_it(tmp_path):
    save_midi(tmp_path / "a.mid", example())
    pretty = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"))
    timed = example().timed_notes(drums=True)
    theirs = sorted(
        (note.start, note.end, note.pitch, note.velocity)
        for each in pretty.instruments
        for note in each.notes
    )
    ours = sorted(
        (start, start + length, pitch, velocity) for start, length, pitch, velocity in timed.tolist()
    )
    assert np.allclose(theirs, ours, atol=1e-6)
    assert [each.is_drum for each in pretty.instruments] == [False, True]
    other = symusic.Score(str(tmp_path / "a.mid"))
    assert other.note_num() == 4
    assert [each.name for each in other.tracks] == ["Lead", "Kit"]


def test_seconds_follow_the_tempo_map():
    score = example()
    assert np.allclose(score.seconds_of(np.array([0.0, 2.0, 3.0, 5.0])), [0.0, 1.0, 2.0, 4.0])
    assert np.allclose(score.beats_of(score.seconds_of(np.linspace(0, 9, 40))), np.linspace(0, 9, 40))
    assert score.seconds == pytest.approx(2.0)


def test_drums_are_left_out_of_timed_notes():
    assert len(example().timed_notes()) == 3
    assert len(example().pitched().notes) == 3


note = st.tuples(st.integers(0, 4000), st.integers(1, 2000), st.integers(0, 127), st.integers(1, 127))


@given(st.lists(note, max_size=40))
@settings(deadline=None, max_examples=30)
def test_notes_on_the_tick_grid_survive_unless_a_pitch_overlaps_itself(rows):
    free = {}
    for start, length, pitch, velocity in sorted(rows):
        if start >= free.get(pitch, (0, 0))[1]:
            free[pitch] = (start, start + length)
            free.setdefault("kept", []).append((start / 480, length / 480, pitch, velocity, 0))
    score = Score(notes=note_array(free.get("kept", [])))
    assert (parse_midi(midi_bytes(score), name="x").notes == score.notes).all()


BAD = {
    "garbage": (bytes(range(256)) * 4, "does not begin with MThd"),
    "short": (b"MThd\x00\x00", "cut off"),
    "film frames": (file(chunk(END), division=0xE728), "film frames"),
    "no division": (file(chunk(END), division=0), "film frames"),
    "unknown kind": (file(chunk(END)).replace(b"\x00\x01\x00\x01", b"\x00\x07\x00\x01"), "header is damaged"),
    "cut off": (file(chunk(END * 9)[:-3]), "cut off within a track"),
    "tempo 0": (file(chunk(b"\x00\xff\x51\x03\x00\x00\x00" + END)), "tempo"),
    "2^27-tick note": (
        file(chunk(b"\x00\x90\x3c\x40" + b"\xc0\x80\x80\x00\x80\x3c\x00" + END)),
        "a note of",
    ),
    "40 h": (
        file(chunk(b"\x00\x90\x3c\x40\x60\x80\x3c\x00" + (b"\xff\xff\xff\x7f\xb0\x07\x40") * 1 + END)),
        "lasts",
    ),
    "controllers": (
        file(chunk(b"\x00\x90\x3c\x40\x60\x80\x3c\x00" + b"\x01\xb0\x07\x40" * 450_000 + END)),
        "controllers exceed",
    ),
    "notes": (file(chunk(b"\x01\x90\x3c\x40\x01\x80\x3c\x40" * 200_001 + END)), "notes exceed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path, kind):
    content, reason = BAD[kind]
    path = tmp_path / "bad.mid"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"bad\.mid: .*{reason}") as caught:
        load_midi(path)
    assert "\n" not in str(caught.value)
    assert ": " in str(caught.value).removeprefix(f"{path}: ")  # reason: mend


def test_size_is_checked_before_anything_is_read(tmp_path):
    for name, content in (("empty.mid", b""), ("big.mid", b"MThd" + bytes(10 * 2**20))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInputError, match=name):
            load_midi(tmp_path / name)
    with pytest.raises(InvalidInputError, match="no such file"):
        load_midi(tmp_path / "none.mid")


@given(
    st.lists(st.tuples(st.integers(14, 120), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 60)
)
@settings(deadline=None, max_examples=60)
def test_a_damaged_file_gives_a_score_or_one_line(changes, cut):
    data = bytearray(midi_bytes(example()))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        score = parse_midi(bytes(data[: len(data) - cut]), name="bad.mid")
    except InvalidInputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert np.isfinite(score.seconds)


def test_a_score_of_symusic_is_read_in_any_unit(tmp_path):
    save_midi(tmp_path / "a.mid", example())
    whole = symusic.Score(str(tmp_path / "a.mid"))
    for form in (whole, whole.to("quarter")):
        assert np.allclose(score_from_symusic(form).timed_notes(), example().timed_notes(), atol=2e-3)


def test_what_midi_cannot_hold_is_refused():
    with pytest.raises(UsageError, match="metre 3/5"):
        midi_bytes(Score(meters=((0.0, 3, 5),)))
    with pytest.raises(UsageError, match=r"tempo 0\.5"):
        midi_bytes(Score(tempos=((0.0, 0.5),)))
    with pytest.raises(UsageError, match="tracks exceed"):
        midi_bytes(Score(tracks=(TrackInfo(),) * (midi.MAX_TRACKS + 1)))
