"""Open Sound Control: one bundle a frame with the addresses of the Face Cap app.

`/W index weight` for each blend shape (Face Cap's own order), `/HR pitch yaw roll` for the head, `/ELR pitch yaw` and
`/ERR pitch yaw` for the eyes, degrees. Other programs want other addresses: pass a template with `{name}` or `{index}`,
for example `/avatar/parameters/v2/{name}` for VRChat.
"""

import struct

import numpy as np
from jaxtyping import Float

from affetto.media.animation.curves import ARKIT_52
from affetto.runtime.errors import InvalidInputError, UsageError

PORT = 9_000
_LEFT_RIGHT = ("Left", "Right")


def _pair(name: str) -> tuple[str, ...]:
    return tuple(name + side for side in _LEFT_RIGHT)


FACE_CAP_ORDER: tuple[str, ...] = (
    "browInnerUp", *_pair("browDown"), *_pair("browOuterUp"),
    *_pair("eyeLookUp"), *_pair("eyeLookDown"), *_pair("eyeLookIn"), *_pair("eyeLookOut"),
    *_pair("eyeBlink"), *_pair("eyeSquint"), *_pair("eyeWide"),
    "cheekPuff", *_pair("cheekSquint"), *_pair("noseSneer"),
    "jawOpen", "jawForward", "jawLeft", "jawRight", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthRollUpper", "mouthRollLower", "mouthShrugUpper", "mouthShrugLower", "mouthClose",
    *_pair("mouthSmile"), *_pair("mouthFrown"), *_pair("mouthDimple"), *_pair("mouthUpperUp"),
    *_pair("mouthLowerDown"), *_pair("mouthPress"), *_pair("mouthStretch"), "tongueOut",
)  # fmt: skip
"""The blend shapes by the index that `/W` carries."""


def _padded(text: str) -> bytes:
    data = text.encode("ascii") + b"\0"
    return data + b"\0" * (-len(data) % 4)


def message(address: str, *values: int | float) -> bytes:
    """One OSC message: whole numbers as int32, others as float32 (OSC 1.0)."""
    if not address.startswith("/") or not address.isascii():
        raise UsageError(f"an OSC address starts with / and is ASCII, got {address!r}")
    tags = "".join("i" if isinstance(value, int) else "f" for value in values)
    data = b"".join(struct.pack(">i" if isinstance(value, int) else ">f", value) for value in values)
    return _padded(address) + _padded("," + tags) + data


def bundle(messages: list[bytes]) -> bytes:
    """An OSC bundle for immediate use."""
    head = _padded("#bundle") + struct.pack(">Q", 1)
    return head + b"".join(struct.pack(">i", len(part)) + part for part in messages)


def frame_bundle(values: Float[np.ndarray, "61"], *, template: str | None = None) -> bytes:
    """One frame as a bundle; `values` are 52 weights (ARKit order) and 9 angles in radians as in a Live Link datagram."""
    weights = dict(zip(ARKIT_52, (float(value) for value in values), strict=False))
    if template is None:
        parts = [message("/W", index, weights[name]) for index, name in enumerate(FACE_CAP_ORDER)]
    elif "{name}" in template or "{index}" in template:
        parts = [
            message(template.replace("{name}", name).replace("{index}", str(index)), weights[name])
            for index, name in enumerate(FACE_CAP_ORDER)
        ]
    else:
        raise UsageError(f"an OSC template holds {{name}} or {{index}}, got {template!r}")
    degrees = [float(angle) for angle in np.degrees(values[52:])]
    parts.append(message("/HR", degrees[1], degrees[0], degrees[2]))
    parts.append(message("/ELR", degrees[4], degrees[3]))
    parts.append(message("/ERR", degrees[7], degrees[6]))
    return bundle(parts)


def parse_bundle(data: bytes) -> list[tuple[str, tuple[int | float, ...]]]:
    """The messages of a bundle or of a lone message as (address, values); raises `InvalidInputError` when damaged."""
    try:
        if not data.startswith(b"#bundle\0"):
            return [_parse_message(data)]
        place, messages = 16, []
        while place < len(data):
            (length,) = struct.unpack_from(">i", data, place)
            if length < 4 or place + 4 + length > len(data):
                raise InvalidInputError(f"not an OSC bundle: a part of {length} bytes in {len(data)}")
            messages.append(_parse_message(data[place + 4 : place + 4 + length]))
            place += 4 + length
    except (struct.error, ValueError) as error:
        raise InvalidInputError(f"not OSC: {len(data)} bytes that do not parse") from error
    return messages


def _parse_message(data: bytes) -> tuple[str, tuple[int | float, ...]]:
    end = data.index(b"\0")
    tags_at = end + 4 - end % 4
    tags_end = data.index(b"\0", tags_at)
    address, tags = data[:end].decode("ascii"), data[tags_at:tags_end].decode("ascii")
    if not tags.startswith(",") or set(tags[1:]) - {"i", "f"}:
        raise ValueError(f"type tags {tags!r}")
    return address, struct.unpack_from(">" + tags[1:], data, tags_end + 4 - tags_end % 4)
