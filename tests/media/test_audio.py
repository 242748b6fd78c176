"""Reading and writing sound."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.media.audio import Audio, load_audio, probe_audio, save_audio, stream_audio
from affetto.media.shelf import mapping_of
from affetto.runtime.errors import InvalidInputError, UsageError


def tone(rate: int, seconds: float, channels: int = 1) -> np.ndarray:
    """(sample, channel) of gently beating sines."""
    times = np.arange(round(rate * seconds)) / rate
    return np.stack(
        [0.4 * np.sin(2 * np.pi * (220 + 3 * c) * times) for c in range(channels)], axis=1
    ).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_every_format_loads_at_its_own_rate_and_channels(tmp_path, suffix, rate, channels):
    path = tmp_path / f"a.{suffix}"
    sound = tone(rate, 1.0, channels)
    soundfile.write(path, sound, rate)
    audio = load_audio(path)
    info = probe_audio(path)
    assert (audio.rate, info.rate, info.channels, len(audio.samples)) == (rate, rate, channels, channels)
    assert abs(audio.seconds - 1.0) < 0.1
    middle = slice(rate // 4, rate // 2)
    assert np.abs(audio.samples.T[middle] - sound[middle]).max() < 0.05


def test_five_channels_mix_to_their_mean(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(8000, 0.5, 5), 8000)
    audio = load_audio(path)
    np.testing.assert_allclose(audio.mono(), audio.samples.mean(axis=0), atol=1e-7)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_stream_equals_the_whole(tmp_path, suffix, rate):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(22_050, 2.3, 2), 22_050)
    whole = load_audio(path).resampled(rate).mono()
    blocks = list(stream_audio(path, 0.25, rate))
    joined = np.concatenate([block for _, block in blocks])
    assert abs(len(joined) - len(whole)) <= 1
    shared = min(len(joined), len(whole))
    np.testing.assert_allclose(joined[:shared], whole[:shared], atol=2e-6)
    assert all(start == pytest.approx(0.25 * number, abs=1e-3) for number, (start, _) in enumerate(blocks))
    assert {len(block) for _, block in blocks[:-1]} == {round(0.25 * rate)}


def test_streaming_holds_only_a_block(tmp_path):
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(30):
            file.write(tone(16_000, 10.0))
    tracemalloc.start()
    total = sum(len(block) for _, block in stream_audio(path, 1.0, 16_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 300 * 16_000
    assert peak < 2 * 2**20


@given(seconds=st.floats(0.01, 0.5), rate=st.sampled_from([8000, 16_000, 44_100, 48_000]))
@settings(max_examples=20, deadline=None)
def test_resampling_keeps_the_length_in_seconds(seconds, rate):
    audio = Audio(samples=tone(22_050, seconds).T.copy(), rate=22_050)
    assert audio.resampled(rate).seconds == pytest.approx(audio.seconds, abs=1.5 / rate)


def test_silence_is_told_from_quiet_sound():
    assert Audio(samples=np.zeros((1, 100), np.float32), rate=8000).is_silent
    assert not Audio(samples=np.full((1, 100), 0.01, np.float32), rate=8000).is_silent


def test_a_slice_stays_inside_the_sound():
    audio = Audio(samples=tone(8000, 1.0).T.copy(), rate=8000)
    assert audio.sliced(0.25, 0.75).seconds == 0.5
    assert audio.sliced(-1.0, 9.0).seconds == 1.0


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_saving_twice_gives_the_same_bytes_and_reads_back(tmp_path, suffix):
    audio = Audio(samples=tone(16_000, 0.3, 2).T.copy(), rate=16_000)
    paths = [save_audio(tmp_path / f"{n}.{suffix}", audio) for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    np.testing.assert_allclose(load_audio(paths[0]).samples, audio.samples, atol=1.0 / 32_000)


def test_sound_is_not_written_under_a_foreign_suffix(tmp_path):
    with pytest.raises(UsageError, match=r"\.wav or \.flac"):
        save_audio(tmp_path / "a.mp3", Audio(samples=np.zeros((1, 9), np.float32), rate=8000))


def wav_header(rate: int = 16_000, channels: int = 1, data_bytes: int = 32_000) -> bytes:
    """A 16-bit WAV header that may lie."""
    fmt = (1).to_bytes(2, "little") + channels.to_bytes(2, "little") + rate.to_bytes(4, "little")
    fmt += (
        (rate * channels * 2).to_bytes(4, "little")
        + (channels * 2).to_bytes(2, "little")
        + (16).to_bytes(2, "little")
    )
    size = (data_bytes + 36).to_bytes(4, "little")
    return (
        b"RIFF"
        + size
        + b"WAVEfmt "
        + (16).to_bytes(4, "little")
        + fmt
        + b"data"
        + data_bytes.to_bytes(4, "little")
    )


def flac_bomb(path) -> None:
    """Three hours of zeros in under a megabyte."""
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC") as file:
        for _ in range(108):
            file.write(np.zeros(800_000, np.int16))


def floats(path, value: float) -> None:
    sound = tone(16_000, 0.5)
    sound[1234] = value
    soundfile.write(path, sound, 16_000, subtype="FLOAT")


def cut(path, share: float, **options) -> None:
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


BAD = {
    "missing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "not a file"),
    "empty": (lambda path: path.touch(), "empty"),
    "text": (lambda path: path.write_text("hello, I am not a sound\n" * 9), "looks like text"),
    "bytes of nothing": (lambda path: path.write_bytes(b"\x01\x02\x00\xff" * 99), "not audio"),
    "a cut WAV": (lambda path: path.write_bytes(wav_header(data_bytes=2**20) + b"\0" * 3000), "cut off"),
    "a WAV without samples": (lambda path: path.write_bytes(wav_header(data_bytes=0)), "no samples"),
    "1 Hz": (lambda path: path.write_bytes(wav_header(rate=1) + b"\0" * 32_000), "1 Hz"),
    "768 kHz": (lambda path: path.write_bytes(wav_header(rate=768_000) + b"\0" * 32_000), "768000 Hz"),
    "60 channels": (lambda path: path.write_bytes(wav_header(channels=60) + b"\0" * 32_000), "60 channels"),
    "NaN": (lambda path: floats(path, np.nan), "sample 1234"),
    "infinity": (lambda path: floats(path, np.inf), "sample 1234"),
    "a cut FLAC": (lambda path: cut(path, 0.5, format="FLAC"), "damaged|cut off"),
    "a FLAC bomb": (flac_bomb, "10800 s exceeds 3600 s"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sound_is_refused_in_one_line_that_names_the_file(tmp_path, name):
    make, message = BAD[name]
    path = tmp_path / "voice.wav"
    make(path)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_audio(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInputError):
        list(stream_audio(path, 0.5, 16_000, max_seconds=3600.0))


def test_a_bomb_costs_no_memory(tmp_path):
    path = tmp_path / "bomb.flac"
    flac_bomb(path)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="exceeds"):
        load_audio(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_an_address_is_not_fetched():
    with pytest.raises(InvalidInputError, match="download"):
        load_audio("https://example.org/voice.wav")


def test_a_header_that_a_stream_never_filled_in_is_accepted(tmp_path):
    path = tmp_path / "piped.wav"
    path.write_bytes(wav_header() + b"\1\0" * 16_000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    path.write_bytes(bytes(content))
    assert load_audio(path).seconds == pytest.approx(1.0, abs=0.01)


def test_long_sounds_lie_on_disk_and_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 16_000 * 3)).astype(np.float32)
    path = tmp_path / "long.wav"
    soundfile.write(path, sound.T, 16_000, subtype="FLOAT")
    in_memory = load_audio(path)
    monkeypatch.setattr("affetto.media.audio.LONG_SECONDS", 2.0)
    on_disk = load_audio(path)
    assert mapping_of(on_disk.samples) is not None
    assert mapping_of(in_memory.samples) is None
    assert type(on_disk.samples) is np.ndarray  # resamplers refuse others
    np.testing.assert_array_equal(on_disk.samples, sound)
    np.testing.assert_array_equal(in_memory.samples, sound)
