"""Reading sound safely, whole or in blocks, and writing WAV files.

Every header is checked before anything is decoded, so that a small file which unpacks to hours costs nothing.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from affetto.media.files import checked_size, first_bytes, looked_at, looks_like_text
from affetto.media.shelf import Shelf, in_blocks, put_away
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.limited import Limits

MAX_SECONDS = 3600.0
LONG_SECONDS = 60.0  # sounds that last longer are kept on disk, see `Shelf`
MAX_CHANNELS = 8
MIN_RATE, MAX_RATE = 4_000, 192_000
_MOST_CHUNKS = 10_000  # before the sound of a WAV file; a file of nothing but empty ones keeps a reader busy
SILENCE_PEAK = 1e-4  # -80 dB of full scale


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What the header of a sound file says."""

    path: Path
    seconds: float
    rate: int  # samples per second
    channels: int
    frames: int  # samples in each channel
    format: str  # such as WAV or FLAC


@dataclass(frozen=True, kw_only=True)
class Audio:
    """Sound in memory: `samples` is (channel, sample), nominally -1..1, at `rate` samples per second."""

    samples: Float32[np.ndarray, "channel sample"]
    rate: int
    path: Path | None = None

    @property
    def seconds(self) -> float:
        """How long the sound lasts."""
        return self.samples.shape[1] / self.rate

    @property
    def is_silent(self) -> bool:
        """Whether no sample rises above -80 dB of full scale."""
        peak = max(self.samples.max(initial=0.0), -self.samples.min(initial=0.0))
        return float(peak) < SILENCE_PEAK

    def mono(self) -> Float32[np.ndarray, "sample"]:
        """The mean of all channels."""
        return self.samples[0] if len(self.samples) == 1 else self.samples.mean(axis=0, dtype=np.float32)

    def resampled(self, rate: int) -> "Audio":
        """The same sound at another rate, through soxr's high-quality filter."""
        if rate == self.rate:
            return self
        samples = _resample(self.samples, self.rate, rate)
        return dataclasses.replace(self, samples=samples, rate=rate)

    def sliced(self, start_s: float, stop_s: float) -> "Audio":
        """The part between two times in seconds, cut to what exists."""
        start, stop = (max(0, round(second * self.rate)) for second in (start_s, stop_s))
        return dataclasses.replace(self, samples=self.samples[:, start:stop])


def _resample(samples: Float32[np.ndarray, "channel sample"], rate: int, wanted: int) -> np.ndarray:
    if samples.shape[1] == 0:
        return samples
    resampled = soxr.resample(samples.T, rate, wanted, quality="HQ").T
    return np.ascontiguousarray(resampled, dtype=np.float32)


def probe_audio(path: str | Path, *, max_seconds: float | None = MAX_SECONDS) -> AudioInfo:
    """What the header of a sound file says, nothing decoded.

    Raises `InvalidInputError` for a missing or empty file, something that is not sound, no samples, and more seconds,
    channels or samples per second than allowed.
    """
    path = Path(path)
    size, head = _checked_head(path)
    try:
        header = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise InvalidInputError(f"{path}: not audio that can be read: use WAV, FLAC, OGG or MP3") from error
    info = AudioInfo(
        path=path,
        seconds=header.frames / max(header.samplerate, 1),
        rate=header.samplerate,
        channels=header.channels,
        frames=header.frames,
        format=header.format,
    )
    _check_limits(info, max_seconds)
    _check_whole(info, head, size)
    return info


def look_at_sound(
    path: str | Path, *, max_seconds: float | None = MAX_SECONDS, whole: bool = True
) -> AudioInfo:
    """Like `probe_audio`, with the decoder in a process bounded in memory and time, and the sound decoded there once.

    Not `whole`, only its first ten seconds are decoded. Raises as `load_audio` does, and for a file that takes more
    than 512 MiB or two minutes of processor time, or crashes its decoder.
    """
    path = Path(path)
    _checked_head(path)
    limits = Limits(seconds=120, clock_s=300.0) if whole else Limits()
    found = looked_at(path, "affetto.media.audio:first_look", max_seconds, whole, limits=limits)
    return AudioInfo(**found | {"path": path})


def first_look(path: str, max_seconds: float | None, whole: bool) -> dict[str, Any]:
    """What `look_at_sound` finds, in the process with limits."""
    info = probe_audio(path, max_seconds=max_seconds)
    blocks = _blocks(info, info.rate * 10)
    for _ in blocks if whole else itertools.islice(blocks, 1):
        pass
    return dataclasses.asdict(info) | {"path": path}


def _checked_head(path: Path) -> tuple[int, bytes]:
    """Size and first bytes of a file that may be sound."""
    size = checked_size(path, kind="recording")
    head = first_bytes(path)
    if looks_like_text(head):
        raise InvalidInputError(f"{path}: not audio, it looks like text: use WAV, FLAC, OGG or MP3")
    return size, head


def _check_limits(info: AudioInfo, max_seconds: float | None) -> None:
    path = info.path
    if not MIN_RATE <= info.rate <= MAX_RATE:
        raise InvalidInputError(f"{path}: {info.rate} Hz is outside {MIN_RATE}..{MAX_RATE} Hz: resample it")
    if info.channels > MAX_CHANNELS:
        raise InvalidInputError(f"{path}: {info.channels} channels exceed {MAX_CHANNELS}: mix it down")
    if info.frames <= 0:
        raise InvalidInputError(f"{path}: holds no samples: record it again")
    if max_seconds is not None and info.seconds > max_seconds:
        raise InvalidInputError(
            f"{path}: {info.seconds:.0f} s exceeds {max_seconds:.0f} s: cut it into parts"
        )


def _check_whole(info: AudioInfo, head: bytes, size: int) -> None:
    """Raise when the sizes written in a WAV header promise more than a tenth above what the file holds."""
    if head[:4] not in (b"RIFF", b"RIFX") or len(head) < 12:
        return
    order = "little" if head[:4] == b"RIFF" else "big"
    with info.path.open("rb") as file:
        file.seek(12)
        for _ in range(_MOST_CHUNKS):
            if len(chunk := file.read(8)) < 8:
                return
            length = int.from_bytes(chunk[4:], order)
            if chunk[:4] == b"data":
                held = size - file.tell()
                open_ended = length in (0, 0xFFFFFFFF, 0x7FFFFFFF - 36)  # a stream's header, never filled in
                if not open_ended and held < 0.9 * length:
                    raise InvalidInputError(
                        f"{info.path}: is cut off ({held} of {length} bytes of sound): copy or export it again"
                    )
                return
            file.seek(length + length % 2, 1)


def _check_finite(samples: np.ndarray, path: Path, start: int) -> None:
    finite = np.isfinite(samples)
    if not finite.all():
        first = start + int(np.argmin(finite.all(axis=1)))
        raise InvalidInputError(f"{path}: sample {first} is not a number (NaN or infinite): export it again")


def load_audio(path: str | Path, *, max_seconds: float | None = MAX_SECONDS) -> Audio:
    """The whole sound of a WAV, FLAC, OGG or MP3 file at its own rate and channels; a long one lies on a shelf.

    Raises `InvalidInputError` like `probe_audio`, and when the file is cut off or a sample is not finite.
    """
    info = probe_audio(path, max_seconds=max_seconds)
    shape = info.channels, info.frames
    samples = Shelf().empty(*shape) if info.seconds > LONG_SECONDS else np.empty(shape, np.float32)
    read = 0
    for start, block in _blocks(info, info.rate * 30):
        read = start + len(block)
        samples[:, start:read] = block.T
        put_away(samples[:, start:read])
    return Audio(samples=samples[:, :read], rate=info.rate, path=info.path)


class _Sequential(soundfile.SoundFile):
    """A sound file that is read straight through.

    soundfile seeks to the place it is already at after every read; MP3 decoders lose their overlap state there.
    """

    def seekable(self) -> bool:
        """False, so that no read seeks."""
        return False


def _blocks(
    info: AudioInfo, block_frames: int
) -> Iterator[tuple[int, Float32[np.ndarray, "sample channel"]]]:
    done = 0
    try:
        with _Sequential(str(info.path)) as file:
            while done < info.frames:
                block = file.read(min(block_frames, info.frames - done), dtype="float32", always_2d=True)
                if not len(block):
                    break
                _check_finite(block, info.path, done)
                yield done, block
                done += len(block)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InvalidInputError(
            f"{info.path}: is damaged after {done / info.rate:.1f} s: copy or export it again"
        ) from error
    if done < 0.9 * info.frames:  # the header of an MP3 or OGG may be out by a block
        raise InvalidInputError(
            f"{info.path}: is cut off at {done / info.rate:.1f} of {info.seconds:.1f} s: copy it again"
        )


def stream_audio(
    path: str | Path, block_seconds: float, rate: int, *, max_seconds: float | None = None
) -> Iterator[tuple[float, Float32[np.ndarray, "sample"]]]:
    """Yield (start in seconds, mono samples at `rate`) block by block, in constant memory for any length.

    All blocks but the last have round(block_seconds * rate) samples; together they are what `load_audio(path)` gives
    when mixed to mono and resampled, but for rounding.
    """
    size = round(block_seconds * rate)
    if size < 1:
        raise UsageError(f"block_seconds must hold at least one sample, got {block_seconds}")
    info = probe_audio(path, max_seconds=max_seconds)
    resampler = (
        soxr.ResampleStream(info.rate, rate, 1, dtype="float32", quality="HQ") if rate != info.rate else None
    )
    waiting = np.zeros(0, np.float32)
    sent = 0
    expected = round(info.frames * rate / info.rate)
    for done, block in _blocks(info, max(1, round(block_seconds * info.rate))):
        mono = block.mean(axis=1, dtype=np.float32)
        if resampler is not None:
            mono = resampler.resample_chunk(mono, last=done + len(block) >= info.frames)
        waiting = np.concatenate([waiting, mono])
        while len(waiting) >= size:
            yield sent / rate, waiting[:size]
            waiting, sent = waiting[size:], sent + size
    rest = waiting[: max(0, expected - sent)] if resampler is not None else waiting
    if len(rest):
        yield sent / rate, rest


def stream_channels(
    path: str | Path, block_seconds: float, *, max_seconds: float | None = None
) -> Iterator[Float32[np.ndarray, "channel sample"]]:
    """Yield all channels at the file's own rate, block by block, in constant memory for any length."""
    info = probe_audio(path, max_seconds=max_seconds)
    for _, block in _blocks(info, max(1, round(block_seconds * info.rate))):
        yield np.ascontiguousarray(block.T)


def save_stream(path: str | Path, pieces: Iterable[Audio], *, overwrite: bool = True) -> Path:
    """Write pieces of sound one after the other as a 16-bit WAV or FLAC file, none held longer than it takes.

    Raises `InvalidInputError` when there are none, or when one has another rate or other channels than the first.
    """
    path = Path(path)
    formats = {".wav": "WAV", ".flac": "FLAC"}
    if path.suffix.lower() not in formats:
        raise UsageError(f"{path}: sound is written as .wav or .flac")
    rest = iter(pieces)
    first = next(rest, None)
    if first is None:
        raise InvalidInputError(f"{path}: there is no sound to write: give at least one piece")
    channels, kind = len(first.samples), formats[path.suffix.lower()]
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        soundfile.SoundFile(str(temporary), "w", first.rate, channels, "PCM_16", format=kind) as file,
    ):
        for piece in itertools.chain([first], rest):
            if piece.rate != first.rate or len(piece.samples) != channels:
                raise InvalidInputError(f"{path}: pieces differ in rate or channels: convert them alike")
            file.write(np.clip(piece.samples.T, -1.0, 1.0))
    return path


def save_audio(path: str | Path, audio: Audio, *, overwrite: bool = True, subtype: str = "PCM_16") -> Path:
    """Write a WAV or FLAC file, samples clipped to -1..1; the same sound always gives the same bytes.

    `subtype` is PCM_16, PCM_24 or FLOAT (WAV only, not clipped). Returns the path.
    """
    path = Path(path)
    formats = {".wav": "WAV", ".flac": "FLAC"}
    if path.suffix.lower() not in formats:
        raise UsageError(f"{path}: sound is written as .wav or .flac")
    channels, kind = len(audio.samples), formats[path.suffix.lower()]
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        soundfile.SoundFile(str(temporary), "w", audio.rate, channels, subtype, format=kind) as file,
    ):
        for block in in_blocks(audio.samples):
            file.write(block.T if subtype == "FLOAT" else np.clip(block, -1.0, 1.0).T)
    return path
