"""Sending a face performance in real time: Live Link Face datagrams or OSC bundles over UDP."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float

from affetto.media.animation import livelink, osc
from affetto.media.animation.curves import FaceCurves
from affetto.runtime.errors import UsageError
from affetto.runtime.progress import CancelToken

_PORTS = {"udp": livelink.PORT, "osc": osc.PORT}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where frames go: `kind` is udp (Live Link Face) or osc."""

    kind: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Target":
        """The target in `udp://HOST[:PORT]` or `osc://HOST[:PORT]`; ports default to 11111 and 9000."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{text!r}: the port must be 1..65535") from error
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/"):
            raise UsageError(
                f"{text!r} is no stream target: use udp://HOST:11111 (Live Link) or osc://HOST:9000"
            )
        if port == 0:
            raise UsageError(f"{text!r}: the port must be 1..65535")
        return cls(kind=parts.scheme, host=parts.hostname, port=port or _PORTS[parts.scheme])


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The time that paces a stream; a test passes one that does not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """What a finished stream did: frames sent, and how late the latest one left (seconds)."""

    frames: int
    seconds: float
    latest: float


class FaceSender:
    """Encodes frames for one target and sends them at once; use it in a `with` block."""

    def __init__(
        self,
        target: Target | str,
        *,
        fps: float,
        subject: str = "affetto",
        device: str = livelink.DEVICE,
        template: str | None = None,
    ) -> None:
        self.target = Target.parse(target) if isinstance(target, str) else target
        self.fps = fps
        self._subject, self._device, self._template = subject, device, template
        try:
            family, kind, protocol, _, self._address = socket.getaddrinfo(
                self.target.host, self.target.port, type=socket.SOCK_DGRAM
            )[0]
            self._socket = socket.socket(family, kind, protocol)
        except OSError as error:
            raise UsageError(
                f"{self.target.host}: cannot be reached ({error.strerror}): check the address"
            ) from error

    def __enter__(self) -> "FaceSender":
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def encode(self, frame: int, values: Float[np.ndarray, "61"]) -> bytes:
        """The datagram for one frame."""
        if self.target.kind == "osc":
            return osc.frame_bundle(values, template=self._template)
        rate = Fraction(self.fps).limit_denominator(1001)
        return livelink.encode_packet(
            livelink.LiveLinkFrame(
                device=self._device,
                subject=self._subject,
                frame=frame,
                subframe=0.0,
                fps=(rate.numerator, rate.denominator),
                values=values,
            )
        )

    def send(self, frame: int, values: Float[np.ndarray, "61"]) -> None:
        """Send one frame now."""
        with contextlib.suppress(ConnectionRefusedError):  # nobody listens yet: datagrams are simply lost
            self._socket.sendto(self.encode(frame, values), self._address)


def _frames(chunks: FaceCurves | Iterable[FaceCurves], fps: float) -> Iterator[Float[np.ndarray, "61"]]:
    for chunk in [chunks] if isinstance(chunks, FaceCurves) else chunks:
        if chunk.fps != fps:
            raise UsageError(f"the stream runs at {fps} frames per second, but a chunk has {chunk.fps}")
        yield from livelink.packet_values(chunk)


def stream_curves(
    chunks: FaceCurves | Iterable[FaceCurves],
    target: Target | str,
    *,
    fps: float | None = None,
    subject: str = "affetto",
    template: str | None = None,
    clock: Clock | None = None,
    cancel: CancelToken | None = None,
) -> StreamReport:
    """Send a performance, or chunks of one as they come, frame by frame at its own rate; returns when all is sent.

    Frame n leaves n / fps seconds after the first; when a chunk comes late, frames follow at once until time is caught
    up. `fps` must be given for chunks that are not a `FaceCurves`.
    """
    rate = fps if fps is not None else chunks.fps if isinstance(chunks, FaceCurves) else None
    if rate is None:
        raise UsageError("streaming chunks needs fps")
    clock = clock or Clock()
    sent, latest, start = 0, 0.0, None
    with FaceSender(target, fps=rate, subject=subject, template=template) as sender:
        for frame, values in enumerate(_frames(chunks, rate)):
            if cancel is not None:
                cancel.check()
            start = clock.now() if start is None else start
            wait = start + frame / rate - clock.now()
            if wait > 0:
                clock.sleep(wait)
            sender.send(frame, values)
            latest = max(latest, clock.now() - (start + frame / rate))
            sent += 1
        seconds = clock.now() - start if start is not None else 0.0
    return StreamReport(frames=sent, seconds=seconds, latest=latest)
