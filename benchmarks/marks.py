"""How well the marks survive, on real speech and pictures: `python benchmarks/marks.py DATA [--keys 40]`.

DATA is the folder that holds `speech/`. For sound: twelve seconds of four readers each; for video: two seconds of a
photo that moves. Scores below the threshold are not found; the last rows give the highest score without a mark.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import soxr
from PIL import Image
from scipy.ndimage import shift
from skimage import data as pictures

from affetto.media.audio import Audio, load_audio
from affetto.provenance import audio_mark, picture_mark
from affetto.provenance.verifying import SPEEDS

KEY, TAG = 7, 1234


def readers(folder: Path) -> Iterator[Audio]:
    for name in ("english_kathleen", "german_kerstin", "dutch_flemishguy", "emodb"):
        parts, seconds = [], 0.0
        for path in sorted((folder / "speech" / name).rglob("*.flac")):
            audio = load_audio(path)
            parts.append(audio.mono())
            seconds += audio.seconds
            if seconds > 12:
                break
        samples = np.concatenate(parts)[: round(12 * audio.rate)]
        yield Audio(samples=samples[None], rate=audio.rate)


def through_codec(audio: Audio, codec: str, container: str, bitrate: int) -> Audio:
    """What is left after encoding and decoding."""
    buffer = io.BytesIO()
    sound = audio.resampled(48_000)
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000, layout="mono")
        stream.bit_rate = bitrate
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.samples[:1]), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 48_000, 0
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=48_000,
                                      frame_size=stream.codec_context.frame_size or 1152)  # fmt: skip
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as read:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000)
        parts = [each.to_ndarray() for frame in read.decode(audio=0) for each in resampler.resample(frame)]
    return Audio(samples=np.concatenate(parts, axis=1).astype(np.float32), rate=48_000)


def noisy(audio: Audio, snr_db: float) -> Audio:
    chance = np.random.default_rng(0)
    level = np.sqrt((audio.samples**2).mean()) * 10 ** (-snr_db / 20)
    return Audio(
        samples=(audio.samples + level * chance.standard_normal(audio.samples.shape)).astype(np.float32),
        rate=audio.rate,
    )


def faster(audio: Audio, factor: float) -> Audio:
    return Audio(
        samples=soxr.resample(audio.samples[0], audio.rate * factor, audio.rate)[None].astype(np.float32),
        rate=audio.rate,
    )


SOUND: dict[str, Callable[[Audio], Audio]] = {
    "as marked": lambda audio: audio,
    "MP3 64 kbit/s": lambda audio: through_codec(audio, "libmp3lame", "mp3", 64_000),
    "AAC 64 kbit/s": lambda audio: through_codec(audio, "aac", "adts", 64_000),
    "Opus 32 kbit/s": lambda audio: through_codec(audio, "libopus", "ogg", 32_000),
    "Opus 24 kbit/s": lambda audio: through_codec(audio, "libopus", "ogg", 24_000),
    "at 16 kHz": lambda audio: audio.resampled(16_000),
    "noise at 20 dB": lambda audio: noisy(audio, 20.0),
    "6 s cut out": lambda audio: audio.sliced(3.37, 9.37),
    "3 s cut out": lambda audio: audio.sliced(3.37, 6.37),
    "2 % faster": lambda audio: faster(audio, 1.02),
}


def sound_table(folder: Path, keys: int) -> None:
    voices = list(readers(folder))
    marked = [audio_mark.mark_audio(voice, key=KEY, tag=TAG) for voice in voices]
    ratio = [
        10 * np.log10((v.samples**2).sum() / ((m.samples - v.samples) ** 2).sum())
        for v, m in zip(voices, marked, strict=True)
    ]
    print(
        f"sound: the mark lies {min(ratio):.1f} to {max(ratio):.1f} dB below; threshold {audio_mark.THRESHOLD}"
    )
    print("| what happened | lowest score | found | tag read |\n|---|---|---|---|")
    for name, change in SOUND.items():
        found = [audio_mark.find_audio_mark(change(each), key=KEY, speeds=SPEEDS) for each in marked]
        lowest, times, tags = (
            min(f.score for f in found),
            sum(f.marked for f in found),
            sum(f.tag == TAG for f in found),
        )
        print(f"| {name} | {lowest:.1f} | {times} of {len(found)} | {tags} |")
    null = [
        audio_mark.find_audio_mark(voice, key=1000 + key, speeds=SPEEDS).score
        for voice in voices
        for key in range(keys)
    ]
    print(
        f"| no mark, {len(null)} trials: highest | {max(null):.1f} | {sum(s >= audio_mark.THRESHOLD for s in null)} | |"
    )


def moving(frames: int = 50) -> Iterator[np.ndarray]:
    photo = pictures.astronaut().astype(np.float32)
    for number in range(frames):
        yield np.clip(
            shift(photo, (2 * np.sin(number / 5), 3 * np.cos(number / 6), 0), order=1, mode="nearest"), 0, 255
        ).astype(np.uint8)


def through_video(
    frames: list[np.ndarray], *, crf: int, codec: str = "libx264", size: int = 512
) -> list[np.ndarray]:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream(codec, rate=25, options={"crf": str(crf), "preset": "veryfast"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            if size != len(frame):
                frame = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as read:
        return [frame.to_ndarray(format="rgb24") for frame in read.decode(video=0)]


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def picture_table(keys: int) -> None:
    plain = list(moving())
    marked = [picture_mark.mark_frame(frame, key=KEY) for frame in plain]
    error = np.mean((marked[0].astype(float) - plain[0]) ** 2)
    print(f"\npictures: PSNR {10 * np.log10(255**2 / error):.1f} dB; threshold {picture_mark.THRESHOLD}")
    print("| what happened | score | found |\n|---|---|---|")
    trials = {
        "one picture, as marked": marked[:1],
        "one picture, JPEG 75": [jpeg(marked[0], 75)],
        "one picture, JPEG 50": [jpeg(marked[0], 50)],
        "one picture, three quarters the size": [
            np.asarray(Image.fromarray(marked[0]).resize((384, 384), Image.Resampling.BOX))
        ],
        "one picture, cropped": [marked[0][37:400, 61:470]],
        "2 s of H.264, CRF 18": through_video(marked, crf=18),
        "2 s of H.264, CRF 23": through_video(marked, crf=23),
        "2 s of H.264, CRF 28": through_video(marked, crf=28),
        "2 s of H.264, CRF 33": through_video(marked, crf=33),
        "2 s of H.265, CRF 26": through_video(marked, crf=26, codec="libx265"),
        "2 s of H.264 at 384 px, CRF 23": through_video(marked, crf=23, size=384),
        "2 s of H.264 at 256 px, CRF 23": through_video(marked, crf=23, size=256),
    }
    for name, frames in trials.items():
        found = picture_mark.find_picture_mark(frames, key=KEY)
        print(f"| {name} | {found.score:.1f} | {'yes' if found.marked else 'no'} |")
    video = through_video(plain, crf=23)
    null = [
        picture_mark.find_picture_mark(f, key=1000 + k).score
        for k in range(keys)
        for f in (video[:10], plain[:1], [pictures.chelsea()], [pictures.coffee()])
    ]
    print(
        f"| no mark, {len(null)} trials: highest | {max(null):.1f} | {sum(s >= picture_mark.THRESHOLD for s in null)} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keys", type=int, default=40)
    options = parser.parse_args()
    sound_table(options.data, options.keys)
    picture_table(options.keys)
