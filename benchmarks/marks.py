"""How well the marks survive, on real speech and pictures: `python benchmarks/marks.py DATA [--keys 2000]`.

DATA is the folder that holds `speech/`. For sound: twelve seconds of four readers each; for video: two seconds of a
photo that moves. Then how long a clip must be, on many cuts, and what unmarked media score: under no mark the score at
one place is a standard normal variable (the counts beyond 3, 4 and 5 check that), so that the rate of false marks is
at most the number of places times the tail beyond the threshold.
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
from scipy.stats import norm
from skimage import data as pictures

from affetto.head.model import HeadModel
from affetto.head.render import open_renderer
from affetto.head.rotation import euler_matrix
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.media.audio import Audio, load_audio
from affetto.provenance import audio_mark, picture_mark
from affetto.provenance.verifying import SPEEDS

KEY, TAG = 7, 1234


def readers(folder: Path, length: float = 12.0) -> Iterator[Audio]:
    for name in ("english_kathleen", "german_kerstin", "dutch_flemishguy", "emodb"):
        parts, seconds = [], 0.0
        for path in sorted((folder / "speech" / name).rglob("*.flac")):
            audio = load_audio(path)
            parts.append(audio.mono())
            seconds += audio.seconds
            if seconds > length:
                break
        samples = np.concatenate(parts)[: round(length * audio.rate)]
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


def sound_table(folder: Path) -> None:
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


LENGTHS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
CUTS = 8


def cuts(folder: Path, seconds: float) -> Iterator[Audio]:
    """Cuts of one length from the beginnings, middles and ends of what four readers say."""
    for voice in readers(folder, 60.0):
        for start in np.linspace(0.0, voice.seconds - seconds, CUTS):
            yield voice.sliced(start, start + seconds)


def length_table(folder: Path) -> None:
    print(
        "\n| seconds of speech | as marked: found, lowest score | AAC 64 kbit/s: found, lowest score |\n|---|---|---|"
    )
    for seconds in LENGTHS:
        marked = [audio_mark.mark_audio(cut, key=KEY, tag=TAG) for cut in cuts(folder, seconds)]
        cells = []
        for change in ("as marked", "AAC 64 kbit/s"):
            found = [
                audio_mark.find_audio_mark(SOUND[change](each), key=KEY, speeds=SPEEDS) for each in marked
            ]
            times = sum(each.marked for each in found)
            cells.append(f"{times} of {len(found)}, {min(each.score for each in found):.1f}")
        print(f"| {seconds:g} | {cells[0]} | {cells[1]} |", flush=True)


def long_table(folder: Path) -> None:
    """Three minutes, which are marked in parts: cuts of six seconds from all over, a seam or none within."""
    voice = next(readers(folder, 180.0))
    long = audio_mark.mark_audio(voice, key=KEY, tag=TAG)
    found = [
        audio_mark.find_audio_mark(long.sliced(start, start + 6.0), key=KEY, speeds=SPEEDS)
        for start in np.arange(0.0, voice.seconds - 6.0, 4.0)
    ]
    lowest = min(each.score for each in found)
    print(
        f"\n{voice.seconds:.0f} s marked in parts: {sum(each.marked for each in found)} of {len(found)} cuts of 6 s found, lowest score {lowest:.1f}"
    )


class Null:
    """Scores where there is no mark: how many lie beyond some bounds, and the highest of each trial."""

    BOUNDS = (3.0, 4.0, 5.0)

    def __init__(self) -> None:
        self.beyond = np.zeros(len(self.BOUNDS), np.int64)
        self.places, self.highest = 0, []

    def trial(self, matches: list[np.ndarray]) -> None:
        scores = np.concatenate([each.reshape(-1) for each in matches])
        self.beyond += [(scores > bound).sum() for bound in self.BOUNDS]
        self.places += len(scores)
        self.highest.append(scores.max())

    def rate(self, threshold: float) -> float:
        """At most how often a file without a mark is taken for a marked one: places times the normal law's tail."""
        return float(self.places / len(self.highest) * norm.sf(threshold))

    def tell(self, what: str, threshold: float) -> None:
        """The counts against the normal law, and two rates of false marks: over all places, over as many as seem independent."""
        each = self.places / len(self.highest)
        independent = np.log(0.5) / np.log1p(-norm.sf(np.median(self.highest)))
        counts = ", ".join(
            f"beyond {bound:g}: {count} ({self.places * norm.sf(bound):.0f} expected)"
            for bound, count in zip(self.BOUNDS, self.beyond, strict=True)
        )
        print(f"\n{what} without a mark: {len(self.highest)} trials of {each:.0f} places, {counts}")
        print(
            f"highest score {max(self.highest):.2f}, threshold {threshold}; false marks at most {self.rate(threshold):.1e} a file"
            f" (as if {independent:.0f} independent places: {independent * norm.sf(threshold):.1e})",
            flush=True,
        )


def sound_null(folder: Path, keys: int) -> Null:
    """Speech without a mark, looked at with many keys."""
    null = Null()
    for voice in readers(folder):
        foldings = [
            cells
            for speed in SPEEDS
            for cells in audio_mark._foldings(
                soxr.resample(voice.mono(), voice.rate, audio_mark.RATE * speed).astype(np.float32)
            )
        ]
        for key in range(keys // 4):
            null.trial([audio_mark._matches(cells, 1000 + key) for cells in foldings])
    return null


def picture_null(keys: int) -> Null:
    """Pictures and a film without a mark, looked at with many keys."""
    null = Null()
    film = through_video(list(moving())[:25], crf=23)
    for frames in (film, [pictures.astronaut()], [pictures.chelsea()], [pictures.coffee()]):
        grain = np.mean([picture_mark._grain(frame) for frame in frames], axis=0)
        spectra = [picture_mark._phases(grain, scale) for scale in picture_mark.SCALES]
        for key in range(keys // 4):
            null.trial([picture_mark._matches(phases, 1000 + key) for phases in spectra])
    return null


def survivals(folder: Path) -> Iterator[tuple[str, list[float], float]]:
    """What marks must survive at the least: its name, the scores, and the threshold."""
    sounds = [audio_mark.mark_audio(voice, key=KEY, tag=TAG) for voice in readers(folder)]
    heard = [SOUND["AAC 64 kbit/s"](sound) for sound in sounds]
    scores = [audio_mark.find_audio_mark(each, key=KEY, speeds=SPEEDS).score for each in heard]
    yield "AAC at 64 kbit/s, 12 s of four readers", scores, audio_mark.THRESHOLD
    for name, plain in FILMS.items():
        film = [picture_mark.mark_frame(frame, key=KEY) for frame in plain()]
        seen = picture_mark.find_picture_mark(through_video(film, crf=28, size=len(film[0])), key=KEY)
        yield f"H.264 at CRF 28, two seconds of {name}", [seen.score], picture_mark.THRESHOLD


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


def picture_table() -> None:
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


def drawn(size: int) -> list[np.ndarray]:
    """Two seconds of the shipped head on its plain ground: the hardest picture for a mark, as it has the least grain."""
    head = HeadModel.load()
    pivot = np.asarray(head.head_pivot)
    renderer = open_renderer(head.mesh.surface, size=(size, size), backend="numba")
    time_s = np.arange(50) / 25.0
    weights = np.zeros((50, 52), np.float32)
    weights[:, ARKIT_INDEX["jawOpen"]] = 0.25 + 0.25 * np.sin(2 * np.pi * 3 * time_s)
    turns = euler_matrix(np.stack([0.1 * np.sin(5 * time_s), *np.zeros((2, 50))], 1))
    return [
        renderer.frame(vertices, turn, pivot, head.head_weights)[..., :3]
        for vertices, turn in zip(head.deform(weights), turns, strict=True)
    ]


FILMS: dict[str, Callable[[], list[np.ndarray]]] = {
    "a photo that moves, 512 px": lambda: list(moving()),
    "the shipped head, 512 px": lambda: drawn(512),
    "the shipped head, 256 px": lambda: drawn(256),
}


def film_table() -> None:
    """How many frames it takes after H.264 at CRF 28."""
    print(
        "\n| H.264, CRF 28 | 1 frame | 5 frames | 12 frames | 25 frames | 50 frames |\n|---|---|---|---|---|---|"
    )
    for name, frames in FILMS.items():
        plain = frames()
        film = through_video(
            [picture_mark.mark_frame(frame, key=KEY) for frame in plain], crf=28, size=len(plain[0])
        )
        scores = [picture_mark.find_picture_mark(film[:count], key=KEY).score for count in (1, 5, 12, 25, 50)]
        print(f"| {name} | " + " | ".join(f"{score:.1f}" for score in scores) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keys", type=int, default=2000)
    options = parser.parse_args()
    sound_table(options.data)
    length_table(options.data)
    long_table(options.data)
    sound_null(options.data, options.keys).tell("sound", audio_mark.THRESHOLD)
    picture_table()
    film_table()
    picture_null(options.keys).tell("pictures", picture_mark.THRESHOLD)
