"""Files and arguments that are wrong in the ways that files from outside are: each writes what it needs into a folder."""

import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from PIL import Image
from skimage import data

from affetto.media.video_writer import VideoWriter

from .conftest import tone, write_wav


def header(*, data: int, rate: int = 16_000, channels: int = 1) -> bytes:
    """A WAV header with whatever it claims."""
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, rate * channels * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16
    )
    return b"RIFF" + struct.pack("<I", min(data + 36, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", data)  # fmt: skip


def sound(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def not_finite(path: Path) -> Path:
    samples = tone()
    samples[0] = np.nan
    return sound(path, samples)


def three_hours(path: Path) -> Path:
    """Half a megabyte of FLAC that would decode to three hours."""
    minute = np.zeros(8000 * 60, np.int16)
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(180):
            file.write(minute)
    return path


def huge_png(path: Path) -> Path:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return written(path, b"\x89PNG\r\n\x1a\n" + parts)


def astronaut() -> np.ndarray:
    return data.astronaut()[40:260, 110:340]


def picture(path: Path, pixels: np.ndarray | None = None, **options: object) -> Path:
    Image.fromarray(astronaut() if pixels is None else pixels).save(path, **options)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    return written(path, content[: round(len(content) * share)])


def three_faces(path: Path) -> Path:
    face = data.astronaut()[40:230, 130:320]
    return picture(path, np.concatenate([face, face[:, ::-1], face], axis=1))


def small_face(path: Path) -> Path:
    Image.fromarray(astronaut()).resize((138, 132), Image.Resampling.BOX).save(path)
    return path


def video(path: Path, size: int = 64) -> Path:
    with VideoWriter(path, (size, size), 25) as writer:
        for level in range(3):
            writer.write(np.full((size, size, 3), 60 * level, np.uint8))
    return path


def enormous_video(path: Path) -> Path:
    """A video whose sample description claims 16000 x 16000 pixels."""
    content = bytearray(video(path).read_bytes())
    at = content.index(b"avc1", content.index(b"stsd"))
    content[at + 28 : at + 32] = struct.pack(">HH", 16_000, 16_000)
    return written(path, bytes(content))


def hidden_video(path: Path) -> Path:
    """The same, but only the stream's own header says so: the boxes speak of 64 x 64 pixels."""
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 8176
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame(8176, 8176, "yuv420p")))
        file.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    at = content.index(b"mp4v", content.index(b"stsd"))
    content[at + 28 : at + 32] = struct.pack(">HH", 64, 64)
    return written(path, bytes(content))


def sound_only_video(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


class Runs:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch was-here",)


def pickled(path: Path) -> Path:
    return written(path, pickle.dumps({"model": Runs()}))


def deflated(path: Path) -> Path:
    """A checkpoint of ten kilobytes that unpacks to ten megabytes."""
    torch.save({"w": torch.zeros(2_500_000)}, path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def safetensors(path: Path, head: dict[str, object] | bytes, body: bytes = b"\0" * 8) -> Path:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return written(path, struct.pack("<Q", len(text)) + text + body)


def tensor(first: int, last: int, shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape or [(last - first) // 4], "data_offsets": [first, last]}


def other_network(path: Path) -> Path:
    torch.save(
        {"encoder.conv1.weight": torch.zeros(1), "encoder.embed_positions.weight": torch.zeros(1)}, path
    )
    return path


def wrong_shapes(path: Path) -> Path:
    return safetensors(path, {"w": tensor(0, 8), "__metadata__": {"format": "emoreg-1"}})


def npz(path: Path, header_text: str | None) -> Path:
    """Curves as objects, or with an array that claims the shape of a header."""
    if header_text is None:
        np.savez(path, fps=np.float64(25), weights=np.array([{}, None], object))
        return path
    text = header_text.ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    np.savez(path, fps=np.float64(25))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("weights.npy", array)
    return path


SEVEN_TIB = "{'descr': '<f4', 'fortran_order': False, 'shape': (37000000000, 52), }"


def midi(path: Path, events: bytes) -> Path:
    track = events + b"\x00\xff\x2f\x00"
    return written(
        path,
        b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk" + struct.pack(">I", len(track)) + track,
    )


def track(path: Path, keys: object) -> Path:
    return written(path, json.dumps({"affetto": "emotion/1", "keys": keys}))


def speech(folder: Path) -> Path:
    return write_wav(folder / "speech.wav", tone())


def million_rows(path: Path) -> Path:
    row = '{"generator":"music","output":"a.mid"}\n'
    return written(path, row * 1_000_000)


def yaml_bomb(path: Path) -> Path:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return written(path, "\n".join([*lines, "jobs: *a9", ""]))
