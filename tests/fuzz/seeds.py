"""Small sound files of every kind that is read, made by code: what fuzzing begins with."""

import io
import json
import pickle
import struct
import tempfile
import wave
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Seeds = Iterator[tuple[str, bytes]]


def _written(suffix: str, write) -> bytes:
    """What `write` puts into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed{suffix}"
        write(path)
        return path.read_bytes()


def sound() -> Seeds:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.arange(800, dtype="<i2").tobytes())
    yield ".wav", buffer.getvalue()
    import soundfile

    samples = np.sin(np.arange(1600) / 9).astype(np.float32) * 0.3
    for suffix in (".flac", ".ogg", ".mp3"):
        yield suffix, _written(suffix, lambda path: soundfile.write(path, samples, 16_000))


def picture() -> Seeds:
    from PIL import Image

    pixels = Image.new("RGB", (24, 24), (200, 90, 40))
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif"):
        yield suffix, _written(suffix, pixels.save)
    yield ".png", _written(".png", pixels.convert("P").save)
    yield ".png", _written(".png", pixels.convert("I;16").save)
    yield ".jpg", _written(".jpg", pixels.convert("CMYK").save)


def video() -> Seeds:
    import av

    for suffix, codec in ((".mp4", "libx264"), (".mp4", "mpeg4"), (".mkv", "mpeg4"), (".avi", "mjpeg")):

        def write(path: Path, codec: str = codec) -> None:
            with av.open(str(path), "w") as file:
                stream = file.add_stream(codec, rate=25)
                stream.width = stream.height = 16
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                for level in (40, 200):
                    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
                    file.mux(stream.encode(frame))
                file.mux(stream.encode(None))

        yield suffix, _written(suffix, write)


def film_sound() -> Seeds:
    import av

    def write(path: Path) -> None:
        with av.open(str(path), "w") as file:
            pictures, sound = (
                file.add_stream("mpeg4", rate=25),
                file.add_stream("aac", rate=44_100, layout="mono"),
            )
            pictures.width = pictures.height = 16
            pictures.pix_fmt = "yuv420p"
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 1024), 0.1, np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 44_100, 4096
            file.mux(
                pictures.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24"))
            )
            file.mux(sound.encode(frame))
            file.mux(pictures.encode(None))
            file.mux(sound.encode(None))

    for suffix in (".mp4", ".mkv"):
        yield suffix, _written(suffix, write)


def midi() -> Seeds:
    track = b"\x00\xff\x51\x03\x07\xa1\x20\x00\xff\x58\x04\x04\x02\x18\x08\x00\xc0\x05\x00\xb0\x40\x7f\x00\x90\x3c\x40\x83\x60\x80\x3c\x40\x00\x90\x3e\x40\x60\x80\x3e\x40\x00\xff\x2f\x00"
    yield ".mid", b"MThd\0\0\0\x06\0\x01\0\x01\x01\xe0MTrk" + struct.pack(">I", len(track)) + track
    yield (
        ".mid",
        b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
    )


def mesh() -> Seeds:
    yield ".obj", b"o face\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\nf -1 -2 -3\n"
    yield ".glb", _glb()
    yield ".gltf", json.dumps(_gltf(0) | {"buffers": [{"uri": "data:,AAAA", "byteLength": 3}]}).encode()


def _gltf(size: int) -> dict:
    sparse = {"count": 1, "indices": {"bufferView": 1, "componentType": 5125}, "values": {"bufferView": 0}}
    return {
        "asset": {"version": "2.0", "extras": {"comment": "words"}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head", "children": [1]}, {"mesh": 0, "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}], "extras": {"targetNames": ["jawOpen"]}}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
            {"bufferView": 0, "componentType": 5126, "count": 2, "type": "SCALAR"},
            {"componentType": 5126, "count": 3, "type": "VEC3", "sparse": sparse},
        ],
        "animations": [{"channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}], "samplers": [{"input": 2, "output": 2, "interpolation": "LINEAR"}]}],
        "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 12}],
        "buffers": [{"byteLength": size}],
    }  # fmt: skip


def _glb() -> bytes:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4")
    body = points.tobytes() + np.array([0, 1, 2], "<u4").tobytes()
    text = json.dumps(_gltf(len(body))).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(body), 0x004E4942)
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks) + len(body)) + chunks + body


def curves() -> Seeds:
    from affetto.media.animation.curves import FaceCurves
    from affetto.media.animation.files import save_curves

    moved = FaceCurves.neutral(3, 30.0)
    moved.weights[1, 17] = 0.5
    for suffix in (".csv", ".json", ".npz"):
        yield suffix, _written(suffix, lambda path: save_curves(path, moved))


def glb_curves() -> Seeds:
    yield ".glb", _glb()


def track_text() -> Seeds:
    for text in ("0:neutral; 1.5:happy@0.8; 3:surprised", "happy:0.6+sad:0.4@0.8", "vad(0.5,0.2,0.1)", "0:sad~hold; 2:angry@1.5~bezier(0.1,0.2,0.3,1)"):  # fmt: skip
        yield ".txt", text.encode()


def track_files() -> Seeds:
    from affetto.conditioning.formats import SUFFIXES, save_track
    from affetto.conditioning.track import EmotionTrack

    track = EmotionTrack.parse("0:neutral; 1:happy@0.7; 2:vad(0.5,0.2,0.1)")
    for suffix in SUFFIXES:
        yield suffix, _written(suffix, lambda path: save_track(path, track))


SCENE = """affetto: 1
size: 128
speech: {text: Hello, emotion: happy}
emotion: "0:neutral; 1:happy@0.7"
music: {seconds: 4, key: C major}
cast: {}
outputs: [mix, music]
"""


def scene() -> Seeds:
    yield ".yaml", SCENE.encode()
    yield ".json", b'{"affetto": 1, "speech": {"text": "Hello"}, "outputs": ["mix"]}'
    yield ".yaml", b"a: &a [1, *a]\nb: !!python/object:os.system {}\n? {x: 1}\n: 2\n"


def manifest() -> Seeds:
    yield (
        ".jsonl",
        b'{"generator": "music", "emotion": "happy", "output": "a.mid", "seconds": 3.5, "id": "x"}\n{}\n',
    )
    yield ".csv", b"generator,emotion,output,seed\nmusic,happy,a.mid,1\nmusic,sad,b.mid,\n"
    yield ".yaml", (b"defaults: {generator: music}\nmatrix: {emotion: [happy, sad], seed: [1, 2]}\noutput: '{emotion}-{seed}.mid'\nexclude: [{emotion: sad}]\njobs: []\n")  # fmt: skip


def safetensors() -> Seeds:
    head = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"x":"y"}}'
    yield ".safetensors", struct.pack("<Q", len(head)) + head + bytes(8)


def checkpoint() -> Seeds:
    import torch

    held = {"state_dict": OrderedDict(w=torch.zeros(2, 3).t(), b=torch.ones(2, dtype=torch.float16))}
    yield ".pt", _written(".pt", lambda path: torch.save(held, path))
    yield ".pt", _written(".pt", lambda path: torch.save(held, path, _use_new_zipfile_serialization=False))
    yield ".pkl", pickle.dumps({"w": np.arange(6.0).reshape(2, 3)})
    yield ".npy", _written(".npy", lambda path: np.save(path, np.arange(4, dtype=np.float32)))
    yield ".npy", _written(".npy", lambda path: np.save(path, np.array({"w": np.arange(3)}), allow_pickle=True))  # fmt: skip
    yield ".pkl", pickle.dumps({"w": print})


def flame() -> Seeds:
    yield ".pkl", pickle.dumps({"v_template": np.zeros((3, 3)), "f": np.zeros((1, 3), np.uint32)})
    buffer = io.BytesIO()
    np.savez(buffer, v_template=np.zeros((3, 3)))
    yield ".npz", buffer.getvalue()


def comment() -> Seeds:
    from affetto.media.notes import write_note

    for seeds in (sound, picture, video, midi, glb_curves):
        for suffix, content in seeds():
            if suffix in (".wav", ".flac", ".png", ".mp4", ".mid", ".glb"):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / f"noted{suffix}"
                    path.write_bytes(content)
                    write_note(path, '{"affetto": "0.1.0"}')
                    yield suffix, path.read_bytes()


def landmarks() -> Seeds:
    points = [[float(x), float(x % 9)] for x in range(68)]
    yield ".json", json.dumps({"points": points}).encode()
    yield ".csv", "".join(f"{n},{x},{y}\n" for n, (x, y) in enumerate(points)).encode()


def json_documents() -> Seeds:
    yield ".json", json.dumps({"source_seconds": [0, 1, 2], "output_seconds": [0, 1.5, 2.5]}).encode()
    asked = {"asked": [0, 0.5, 1], "got": [0, 0.4, 0.9]}
    yield ".json", json.dumps({"format": "affetto-calibration", "curves": {"face": {"happy": asked}}, "critics": {"face": "x"}}).encode()  # fmt: skip
    yield ".json", json.dumps({"nose_tip": [0.0, 1.0, 2.0], "chin": [0, 0, 1]}).encode()
    yield ".json", json.dumps({"affetto": "0.1.0", "outputs": {"a.wav": "0" * 64}, "file": {"name": "a", "sha256": "b"}}).encode()  # fmt: skip


def osc() -> Seeds:
    message = b"/W\0\0,if\0" + struct.pack(">if", 3, 0.5)
    yield ".osc", message
    yield ".osc", b"#bundle\0" + bytes(8) + struct.pack(">i", len(message)) + message


def bank() -> Seeds:
    head = {
        "bank.residual": {"dtype": "F32", "shape": [1, 1, 2], "data_offsets": [0, 8]},
        "__metadata__": {"bank": "emoreg-1", "derived": "[]", "about": "{}", "names": "[]", "calibration": "{}", "dirs.names": "[]"},
    }  # fmt: skip
    text = json.dumps(head).encode()
    yield ".safetensors", struct.pack("<Q", len(text)) + text + bytes(8)


def zip_members() -> Seeds:
    """Archives of arrays, stored and packed."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            file.writestr("values.npy", _written(".npy", lambda path: np.save(path, np.zeros((3, 61), np.float32))))  # fmt: skip
            file.writestr("fps.npy", _written(".npy", lambda path: np.save(path, np.float64(30))))
        yield ".npz", buffer.getvalue()
