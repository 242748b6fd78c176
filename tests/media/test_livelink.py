"""Live Link Face files and datagrams, byte for byte."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX, FaceCurves
from affetto.media.animation.livelink import (
    CSV_HEADER,
    LiveLinkFrame,
    decode_packet,
    encode_packet,
    packet_values,
    read_csv,
    timecode,
    write_csv,
)
from affetto.runtime.errors import InvalidInputError, UsageError

HEADER = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,"
    "MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,"
    "HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def one_hot(name: str, frames: int = 1, fps: float = 60.0) -> FaceCurves:
    curves = FaceCurves.neutral(frames, fps)
    curves.weights[:, ARKIT_INDEX[name]] = 1.0
    return curves


def test_the_header_is_the_apps(tmp_path):
    path = write_csv(tmp_path / "a.csv", FaceCurves.neutral(2, 60.0))
    lines = path.read_bytes().split(b"\n")
    assert lines[0].decode() == HEADER == ",".join(CSV_HEADER)
    assert len(CSV_HEADER) == 63
    assert lines[1].startswith(b"00:00:00:00.000,61,0.0000000000,")
    assert lines[2].startswith(b"00:00:00:01.000,61,")


@pytest.mark.parametrize(
    "name", ["jawLeft", "jawRight", "mouthLeft", "mouthRight", "tongueOut", "eyeBlinkLeft"]
)
def test_each_weight_stands_under_its_own_name(tmp_path, name):
    path = write_csv(tmp_path / "a.csv", one_hot(name))
    header, row = (line.split(",") for line in path.read_text().splitlines())
    assert [column for column, value in zip(header, row, strict=True) if value == "1.0000000000"] == [
        name[0].upper() + name[1:]
    ]


def test_datagrams_have_left_before_right_unlike_the_file():
    assert packet_values(one_hot("jawLeft"))[0].argmax() == 15
    assert packet_values(one_hot("mouthRight"))[0].argmax() == 22
    assert CSV_HEADER[2 + 15 : 2 + 17] == ("JawRight", "JawLeft")


@pytest.mark.parametrize(
    ("frame", "fps", "text"),
    [
        (0, 60.0, "00:00:00:00.000"),
        (59, 60.0, "00:00:00:59.000"),
        (60, 60.0, "00:00:01:00.000"),
        (30 * 3725 + 7, 30.0, "01:02:05:07.000"),
        (30, 29.97, "00:00:01:00.030"),
        (24 * 86_399 + 23, 24.0, "23:59:59:23.000"),
    ],
)
def test_timecodes_count_frames_within_the_second(frame, fps, text):
    assert timecode(frame, fps) == text


@given(
    weights=hnp.arrays(
        np.float32, st.tuples(st.integers(61, 140), st.just(52)), elements=st.floats(0, 1, width=32)
    ),
    fps=st.sampled_from([24.0, 25.0, 30.0, 60.0]),
    angles=st.sampled_from(["radians", "degrees"]),
)
@settings(max_examples=15, deadline=None)
def test_a_round_trip_keeps_every_value(tmp_path_factory, weights, fps, angles):
    rng = np.random.default_rng(0)
    head, eyes = rng.normal(size=(len(weights), 3)), rng.normal(size=(len(weights), 2, 2))
    curves = FaceCurves(fps=fps, weights=weights, head=head.astype(np.float32), eyes=eyes.astype(np.float32))
    path = write_csv(tmp_path_factory.mktemp("csv") / "a.csv", curves, angles=angles)
    back = read_csv(path, angles=angles)
    assert back.fps == fps
    for name in ("weights", "head", "eyes"):
        np.testing.assert_allclose(getattr(back, name), getattr(curves, name), atol=2e-6)


def recording(rows: list[str], columns: str = HEADER) -> str:
    count = columns.count(",") - 1
    return columns + "\n" + "".join(f"{row},61" + ",0.5" * count + "\n" for row in rows)


def test_older_timecodes_without_a_fraction_and_wall_clock_starts_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(recording([f"14:03:{52 + n // 60}:{n % 60:02d}" for n in range(90)]))
    curves = read_csv(path)
    assert (curves.fps, len(curves)) == (60.0, 90)


def test_subframe_fractions_and_dropped_frames_become_a_steady_rate(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(recording([f"00:00:0{n // 30}:{n % 30:02d}.{n % 7:03d}" for n in range(70) if n % 9]))
    curves = read_csv(path)
    assert curves.fps == 30.0
    assert len(curves) == 69
    np.testing.assert_allclose(curves.weights, 0.5, atol=1e-6)


def test_midnight_does_not_turn_time_back(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        recording([f"23:59:59:{n:02d}" for n in range(60)] + [f"00:00:00:{n:02d}" for n in range(10)])
    )
    assert len(read_csv(path)) == 70


def test_columns_may_come_in_any_order_and_without_angles(tmp_path):
    names = ["Timecode", "BlendShapeCount", *reversed(ARKIT_52)]
    values = ["00:00:00:00.000", "52", *(f"{index / 100}" for index in reversed(range(52)))]
    path = tmp_path / "a.csv"
    path.write_text("﻿" + ",".join(names) + "\r\n" + ",".join(values) + "\r\n", encoding="utf-8", newline="")
    curves = read_csv(path)
    np.testing.assert_allclose(curves.weights[0], np.arange(52) / 100, atol=1e-7)
    assert not curves.head.any()


BAD = {
    "empty": ("", "empty"),
    "another table": ("a,b\n1,2\n", "no Timecode"),
    "a missing shape": (recording(["00:00:00:00"], HEADER.replace("JawOpen,", "")), "jawOpen"),
    "no rows": (HEADER + "\n", "no frames"),
    "a bad timecode": (recording(["0.033"]), "line 2: timecode '0.033'"),
    "a short row": (HEADER + "\n00:00:00:00,61,0.5\n", "line 2 is cut off"),
    "a word": (recording(["00:00:00:00"]).replace("0.5\n", "much\n"), "line 2"),
    "NaN": (recording(["00:00:00:00", "00:00:00:01"]).replace("0.5\n", "nan\n"), "line 2 holds NaN"),
    "unsorted": (recording(["00:00:00:05", "00:00:00:03"]), "line 3 is not later"),
    "a gap of an hour": (recording(["00:00:00:00", "01:00:00:00"]), "leaves out"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_recording_is_refused_in_one_line(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / "take.csv"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_csv(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "take.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 50)
    with pytest.raises(InvalidInputError, match="not a CSV"):
        read_csv(path)


FRAME = LiveLinkFrame(
    device="0123456789ABCDEF0123456789ABCDEF0123",
    subject="face",
    frame=258,
    subframe=0.5,
    fps=(60, 1),
    values=np.arange(61, dtype=np.float32) / 64,
)


def test_the_datagram_has_the_golden_bytes():
    data = encode_packet(FRAME)
    # the version byte and the length of a 36-character id: what other senders write as "<I" 6 and then "$"
    assert data[:5] == bytes.fromhex("0600000024")
    assert data[5:41] == b"0123456789ABCDEF0123456789ABCDEF0123"
    assert data[41:49] == bytes.fromhex("00000004") + b"face"
    assert data[49:66] == bytes.fromhex("00000102 3f000000 0000003c 00000001 3d")
    assert data[66:78] == bytes.fromhex("00000000 3c800000 3d000000")
    assert len(data) == 66 + 61 * 4
    assert data[66:] == struct.pack(">61f", *(n / 64 for n in range(61)))


def test_a_datagram_reads_back():
    back = decode_packet(encode_packet(FRAME))
    assert (back.device, back.subject, back.frame, back.subframe, back.fps) == (
        FRAME.device, FRAME.subject, 258, 0.5, (60, 1),
    )  # fmt: skip
    np.testing.assert_array_equal(back.values, FRAME.values)


@given(st.binary(max_size=400))
def test_any_other_bytes_are_refused(data):
    with pytest.raises(InvalidInputError, match="datagram"):
        decode_packet(data)


@given(st.integers(0, len(encode_packet(FRAME)) - 1))
def test_a_cut_datagram_is_refused(length):
    with pytest.raises(InvalidInputError, match="datagram"):
        decode_packet(encode_packet(FRAME)[:length])


def test_a_wrong_count_of_values_is_refused():
    with pytest.raises(UsageError, match="degrees"):
        packet_values(FaceCurves.neutral(1, 60.0), angles="gradians")
