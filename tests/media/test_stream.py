"""Streaming over a real loopback socket, and the OSC encoding."""

import contextlib
import socket
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.media.animation import livelink, osc
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX, FaceCurves
from affetto.media.animation.stream import Clock, Target, stream_curves
from affetto.runtime.errors import CancelledError, InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken


class FakeTime:
    """A clock that jumps instead of waiting, and remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.time, self.waits = 100.0, []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self.sleep)


@pytest.fixture
def listener():
    """A socket that hears what is sent to this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("127.0.0.1", 0))
        heard.settimeout(2.0)
        yield heard


def address(listener: socket.socket, kind: str) -> str:
    return f"{kind}://127.0.0.1:{listener.getsockname()[1]}"


def test_live_link_frames_arrive_in_order_and_whole(listener, performance):
    time = FakeTime()
    report = stream_curves(performance, address(listener, "udp"), subject="anna", clock=time.clock())
    frames = [livelink.decode_packet(listener.recv(2048)) for _ in range(len(performance))]
    assert report.frames == 75
    assert [frame.frame for frame in frames] == list(range(75))
    assert {(frame.subject, frame.fps) for frame in frames} == {("anna", (25, 1))}
    np.testing.assert_array_equal(np.stack([frame.values for frame in frames])[:, :52], performance.weights)


def test_frames_leave_at_their_own_rate(listener, performance):
    time = FakeTime()
    report = stream_curves(performance, address(listener, "udp"), clock=time.clock())
    assert report.seconds == pytest.approx(74 / 25)
    assert sum(time.waits) == pytest.approx(74 / 25)
    assert max(time.waits) == pytest.approx(1 / 25)
    assert report.latest < 1e-6


def test_a_late_chunk_is_caught_up(listener):
    time = FakeTime()

    def chunks():
        yield FaceCurves.neutral(10, 25.0)
        time.time += 1.0
        yield FaceCurves.neutral(50, 25.0)

    report = stream_curves(chunks(), address(listener, "udp"), fps=25.0, clock=time.clock())
    assert report.frames == 60
    assert report.seconds == pytest.approx(59 / 25)
    assert 0.9 < report.latest < 1.0


def test_chunks_of_another_rate_are_refused(listener):
    with pytest.raises(UsageError, match="25"):
        stream_curves(
            [FaceCurves.neutral(2, 25.0)], address(listener, "udp"), fps=30.0, clock=FakeTime().clock()
        )


def test_a_cancelled_stream_stops(listener, performance):
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        stream_curves(performance, address(listener, "udp"), cancel=token, clock=FakeTime().clock())


def test_nobody_listening_is_no_error(performance):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    report = stream_curves(performance.sliced(0, 5), f"udp://127.0.0.1:{free}", clock=FakeTime().clock())
    assert report.frames == 5


def test_osc_bundles_carry_every_shape_by_face_caps_index(listener):
    curves = FaceCurves.neutral(1, 25.0)
    curves.weights[0] = np.arange(52) / 64
    curves.head[0] = np.radians([10, 20, 30])
    curves.eyes[0] = np.radians([[1, 2], [3, 4]])
    stream_curves(curves, address(listener, "osc"), clock=FakeTime().clock())
    messages = osc.parse_bundle(listener.recv(4096))
    weights = {values[0]: values[1] for name, values in messages if name == "/W"}
    assert sorted(weights) == list(range(52))
    assert weights[24] == ARKIT_INDEX["jawOpen"] / 64
    assert weights[0] == ARKIT_INDEX["browInnerUp"] / 64
    angles = {name: values for name, values in messages if name != "/W"}
    assert angles["/HR"] == pytest.approx((20, 10, 30), abs=1e-4)
    assert angles["/ELR"] == pytest.approx((2, 1), abs=1e-4)
    assert angles["/ERR"] == pytest.approx((4, 3), abs=1e-4)


def test_osc_messages_have_the_golden_bytes():
    assert osc.message("/W", 3, 0.5) == b"/W\0\0,if\0" + bytes.fromhex("00000003 3f000000")
    assert osc.bundle([osc.message("/W", 3, 0.5)]) == b"#bundle\0" + struct.pack(">Qi", 1, 16) + osc.message(
        "/W", 3, 0.5
    )


def test_a_bundle_fits_one_datagram():
    assert len(osc.frame_bundle(np.zeros(61, np.float32))) < 1472


def test_face_caps_order_holds_every_shape_once():
    assert sorted(osc.FACE_CAP_ORDER) == sorted(ARKIT_52)


def test_a_template_names_each_shape():
    data = osc.frame_bundle(np.ones(61, np.float32), template="/avatar/parameters/v2/{name}")
    assert ("/avatar/parameters/v2/jawOpen", (1.0,)) in osc.parse_bundle(data)
    with pytest.raises(UsageError, match=r"\{name\}"):
        osc.frame_bundle(np.ones(61, np.float32), template="/face")


@given(
    st.text("abcW/_", max_size=12).map(lambda rest: "/" + rest),
    st.lists(st.one_of(st.integers(-(2**31), 2**31 - 1), st.floats(width=32, allow_nan=False)), max_size=6),
)
@settings(max_examples=50)
def test_osc_messages_round_trip(name, values):
    data = osc.message(name, *values)
    assert len(data) % 4 == 0
    assert osc.parse_bundle(data) == [(name, tuple(values))]
    assert osc.parse_bundle(osc.bundle([data, data])) == [(name, tuple(values))] * 2


@given(st.binary(max_size=100))
def test_other_bytes_are_refused_or_read_but_never_crash(data):
    with contextlib.suppress(InvalidInputError):
        assert all(name.isascii() for name, _ in osc.parse_bundle(data))


@pytest.mark.parametrize(
    ("text", "kind", "host", "port"),
    [
        ("udp://127.0.0.1:11111", "udp", "127.0.0.1", 11_111),
        ("udp://localhost", "udp", "localhost", 11_111),
        ("osc://[::1]", "osc", "::1", 9_000),
        ("osc://10.0.0.2:39539/", "osc", "10.0.0.2", 39_539),
    ],
)
def test_targets_are_parsed(text, kind, host, port):
    assert Target.parse(text) == Target(kind=kind, host=host, port=port)


@pytest.mark.parametrize(
    "text",
    ["", "localhost:1", "http://a:1", "udp://", "udp://a:0", "udp://a:99999", "udp://a:b", "udp://a/b"],
)
def test_other_targets_are_refused(text):
    with pytest.raises(UsageError, match=r"stream target|port"):
        Target.parse(text)
