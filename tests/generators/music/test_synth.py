import dataclasses

import numpy as np
import pytest
import scipy.signal

from affetto.generators.music.synth import TIMBRES, render, render_stems, stream, timbre_of
from affetto.generators.music.synth.part import SoundStore
from affetto.generators.music.synth.piano import inharmonicity, partials, piano
from affetto.media.audio import save_stream
from affetto.media.loudness import integrated_loudness, true_peak_db
from affetto.media.midi import CONTROL, SUSTAIN, Score, TrackInfo, note_array
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError

RATE = 22_050


def score_of(*notes, tracks=(TrackInfo(),), controls=()):
    return Score(notes=note_array(list(notes)), tracks=tracks, controls=np.array(list(controls), CONTROL))


def melody(program=0, name=""):
    notes = [(0.5 * i, 0.5, pitch, 80, 0) for i, pitch in enumerate((60, 64, 67, 72, 48, 55, 76, 60))]
    return score_of(*notes, tracks=(TrackInfo(program=program, name=name),))


def band():
    tracks = (
        TrackInfo(name="Melody", program=73),
        TrackInfo(name="Chords"),
        TrackInfo(name="Bass", program=32),
        TrackInfo(name="Drums", is_drum=True),
    )
    notes = [(float(i), 1.0, pitch, 90, 0) for i, pitch in enumerate((72, 76, 79, 74))]
    notes += [(0.0, 4.0, pitch, 64, 1) for pitch in (52, 55, 60)]
    notes += [(float(i), 1.0, 36, 80, 2) for i in range(4)]
    notes += [(i / 2, 0.25, key, 70, 3) for i, key in enumerate((36, 42, 38, 42, 36, 46, 38, 51))]
    return score_of(*notes, tracks=tracks, controls=[(0.0, 1, SUSTAIN, 127), (4.0, 1, SUSTAIN, 0)])


def level(samples):
    return 20.0 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) + 1e-12)


def at(audio, start, stop):
    return level(audio.sliced(start, stop).samples)


def centroid(sound, rate=44_100):
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return float((power * np.fft.rfftfreq(len(sound), 1 / rate)).sum() / power.sum())


@pytest.mark.parametrize("pitch", [28, 48, 60, 72, 96])
def test_partials_of_the_piano_lie_where_stiff_strings_have_them(pitch):
    rate = 44_100
    sound = piano(pitch, 0.8, rate, rate)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(rate), 4 * rate))
    expected = partials(pitch, rate)
    first = expected[0] / np.sqrt(1.0 + inharmonicity(pitch))
    for number in range(1, min(len(expected), 9)):
        wanted = number * first * np.sqrt(1.0 + inharmonicity(pitch) * number**2)
        near = np.arange(int(4 * (wanted - 0.3 * first)), int(4 * (wanted + 0.3 * first)))
        found = near[spectrum[near].argmax()] / 4.0
        assert abs(1200 * np.log2(found / wanted)) < 12.0


def test_the_piano_is_in_tune_at_a_and_its_octaves_are_stretched():
    assert partials(69, 44_100)[0] == pytest.approx(440.0, abs=0.01)
    assert partials(93, 44_100)[0] > 1760.0
    assert partials(33, 44_100)[0] < 55.0
    assert 2e-4 < inharmonicity(60) < 6e-4 < inharmonicity(90)


@pytest.mark.parametrize("pitch", [30, 60, 84, 103])
def test_a_piano_note_fades_and_the_highest_fade_fastest(pitch):
    sound = piano(pitch, 0.6, 4 * RATE, RATE)
    levels = [level(sound[int(t * RATE) : int((t + 0.3) * RATE)]) for t in (0.05, 1.0, 3.0)]
    assert levels[0] > levels[1] > levels[2]
    lower = piano(pitch - 12 if pitch > 40 else 21, 0.6, 4 * RATE, RATE)
    fall = level(lower[int(0.05 * RATE) : int(0.35 * RATE)]) - level(lower[RATE : int(1.3 * RATE)])
    assert levels[0] - levels[1] > 0.8 * fall


def test_the_sound_dies_in_two_stages():
    sound = piano(60, 0.6, 10 * RATE, RATE)
    levels = [level(sound[int(t * RATE) : int((t + 0.5) * RATE)]) for t in (0.1, 1.6, 6.0, 9.0)]
    assert (levels[0] - levels[1]) / 1.5 > 1.5 * (levels[2] - levels[3]) / 3.0


@pytest.mark.parametrize("pitch", [36, 60, 84])
def test_harder_blows_are_brighter(pitch):
    soft, middle, hard = (centroid(piano(pitch, force, 22_050, 44_100)) for force in (0.2, 0.5, 0.95))
    assert hard > 1.1 * middle > 1.2 * soft


def test_louder_velocities_are_louder():
    mixed = score_of((0.0, 1.0, 60, 40, 0), (4.0, 1.0, 60, 110, 0))
    audio = render(mixed, rate=RATE)
    assert at(audio, 2.0, 2.4) > at(audio, 0.0, 0.4) + 8.0


def test_notes_begin_without_a_click_and_have_no_direct_current():
    for pitch in (24, 60, 100):
        sound = piano(pitch, 0.9, 44_100, 44_100)
        assert abs(sound[0]) < 0.02 * np.abs(sound).max()
        assert abs(sound.mean()) < 1e-3 * np.abs(sound).max()


@pytest.mark.parametrize("name", sorted(TIMBRES))
def test_every_instrument_sounds_stays_finite_and_begins_alike_whatever_the_length(name):
    timbre = TIMBRES[name]
    pitch = 38 if name == "drums" else 62
    short = timbre.sound(pitch, 0.6, RATE // 2, RATE)
    long = timbre.sound(pitch, 0.6, RATE, RATE)
    assert np.isfinite(long).all()
    assert 0.1 < np.abs(short).max() < 4.0
    assert np.array_equal(short, long[: len(short)])


@pytest.mark.parametrize(
    "name", ["guitar", "bass", "music-box", "violin", "flute", "organ", "pad", "clarinet"]
)
def test_instruments_play_in_tune_and_nothing_aliases(name):
    for pitch in (50, 81, 108):
        sound = TIMBRES[name].sound(pitch, 0.7, RATE, RATE)[RATE // 4 :]
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * RATE))
        wanted = 440.0 * 2.0 ** ((pitch - 69) / 12)
        near = np.arange(int(8 * wanted * 0.95), int(8 * wanted * 1.06))
        assert abs(1200 * np.log2(near[spectrum[near].argmax()] / 8.0 / wanted)) < 20.0
        below = spectrum[: int(8 * wanted * 0.6)]
        assert below.max() < 0.02 * spectrum.max()


def test_dampers_silence_keys_but_not_the_highest_ones():
    audio = render(score_of((0.0, 0.5, 60, 90, 0)), rate=RATE, room=0.0)
    assert at(audio, 0.8, 1.0) < at(audio, 0.05, 0.2) - 35.0
    for pitch, rings_on in ((60, False), (96, True)):
        two = render(score_of((0.0, 0.2, pitch, 90, 0), (4.0, 1.0, pitch, 90, 0)), rate=RATE, room=0.0)
        apart = at(two, 2.2, 2.4) - at(two, 0.2, 0.4)  # the second is held
        assert bool(abs(apart) < 1.0) is rings_on


def test_the_pedal_sustains_until_it_is_lifted():
    note = (0.0, 0.5, 60, 90, 0)
    dry = render(score_of(note, (8.0, 1.0, 60, 90, 0)), rate=RATE, room=0.0)
    down = [(0.25, 0, SUSTAIN, 127), (4.0, 0, SUSTAIN, 0)]
    wet = render(score_of(note, (8.0, 1.0, 60, 90, 0), controls=down), rate=RATE, room=0.0)
    assert at(wet, 1.0, 1.8) > at(dry, 1.0, 1.8) + 25.0
    assert at(wet, 2.6, 3.0) < at(wet, 1.0, 1.8) - 25.0


def test_low_keys_lie_left_and_high_keys_right():
    low, high = (render(score_of((0.0, 1.0, pitch, 90, 0)), rate=RATE).samples for pitch in (30, 96))
    assert level(low[0]) > level(low[1]) + 1.0
    assert level(high[1]) > level(high[0]) + 1.0


def test_volume_and_pan_controllers_are_heard():
    notes = [(0.0, 1.0, 60, 90, 0), (4.0, 1.0, 60, 90, 0)]
    audio = render(score_of(*notes, controls=[(3.0, 0, 7, 50), (3.0, 0, 10, 127)]), rate=RATE, room=0.0)
    assert at(audio, 0.0, 0.4) > at(audio, 2.0, 2.4) + 6.0
    right = audio.sliced(2.0, 2.4).samples
    assert level(right[1]) > level(right[0]) + 12.0


@pytest.mark.parametrize("score", [melody(), melody(10), band()], ids=["piano", "music-box", "band"])
def test_loudness_is_what_was_asked_for_and_nothing_clips(score):
    for lufs in (-16.0, -23.0):
        audio = render(score, rate=RATE, lufs=lufs)
        assert integrated_loudness([audio.samples], RATE) == pytest.approx(lufs, abs=0.5)
        assert true_peak_db(audio.samples) < -0.9
    assert audio.seconds == pytest.approx(score.seconds + 2.5, abs=0.01)
    assert np.abs(audio.samples[:, -1]).max() < 1e-6


def test_the_same_score_gives_the_same_samples_however_little_is_kept():
    score = band()
    first = render(score, rate=RATE).samples
    assert np.array_equal(first, render(score, rate=RATE).samples)
    kept, forgotten = SoundStore(RATE), SoundStore(RATE, limit=1)
    for pitch, seconds in ((60, 0.3), (60, 3.0), (64, 1.0), (60, 0.4)):
        one, two = (store.sound(TIMBRES["piano"], pitch, 80, seconds) for store in (kept, forgotten))
        shorter = min(len(one), len(two))
        assert shorter >= seconds * RATE
        assert np.array_equal(one[:shorter], two[:shorter])


def test_stems_sum_to_the_mix_before_it_is_limited():
    score = band()
    stems = render_stems(score, rate=RATE, lufs=-26.0)
    assert list(stems) == ["Melody", "Chords", "Bass", "Drums"]
    mix = render(score, rate=RATE, lufs=-26.0).samples  # so soft that the limiter has nothing to do
    total = sum(stem.samples.astype(np.float64) for stem in stems.values())
    assert np.abs(total - mix).max() < 1e-5 * np.abs(mix).max() + 1e-6
    assert all(not stem.is_silent for stem in stems.values())


def test_stems_of_tracks_with_one_name_are_told_apart():
    tracks = (TrackInfo(name="Piano"), TrackInfo(name="Piano"), TrackInfo(program=40))
    score = score_of(*[(0.0, 1.0, 60 + track, 80, track) for track in range(3)], tracks=tracks)
    assert list(render_stems(score, rate=RATE)) == ["Piano", "Piano 2", "violin"]


def test_a_stream_is_the_same_sound_in_pieces(tmp_path):
    score = melody()
    score = dataclasses.replace(score, tempos=((0.0, 40.0),))
    whole = render(score, rate=16_000)
    pieces = list(stream(score, rate=16_000))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces], axis=1), whole.samples)
    assert save_stream(tmp_path / "long.wav", pieces).stat().st_size > 100_000


def test_a_loop_lasts_as_long_as_asked_and_its_end_runs_into_its_beginning():
    score = melody()
    loop = render(score, rate=RATE, loop_s=2.0).samples
    assert loop.shape[1] == 2 * RATE
    seam = np.concatenate([loop[:, -200:], loop[:, :200]], axis=1)
    leaps = np.abs(np.diff(seam, axis=1)).max(axis=0)
    assert leaps[199] < 3.0 * np.percentile(leaps, 95) + 1e-3
    plain = render(score, rate=RATE).samples
    assert level(loop[:, :400]) > level(plain[:, :400])  # the end of the piece rings at its beginning


def test_long_held_notes_go_on_to_their_end():
    audio = render(score_of((0.0, 60.0, 62, 80, 0), tracks=(TrackInfo(program=48),)), rate=16_000)
    levels = [at(audio, float(t), t + 1.0) for t in range(1, 29, 3)]
    assert min(levels) > max(levels) - 8.0


def test_programs_choose_instruments_and_timbres_replace_them():
    chosen = {program: timbre_of(program, is_drum=False) for program in range(128)}
    assert set(chosen.values()) <= set(TIMBRES)
    assert [chosen[p] for p in (0, 10, 24, 33, 40, 48, 56, 73)] == [
        "piano", "music-box", "guitar", "bass", "violin", "strings", "trumpet", "flute",
    ]  # fmt: skip
    assert timbre_of(0, is_drum=True) == "drums"
    boxed = render(melody(), rate=RATE, timbres={0: "music-box"}).samples
    assert np.array_equal(boxed, render(melody(10), rate=RATE).samples)


def test_impossible_wishes_are_refused_in_one_line():
    for wish in (
        {"rate": 4000},
        {"room": 2.0},
        {"lufs": 0.0},
        {"tail_s": -1.0},
        {"loop_s": 0.0},
        {"timbres": {0: "kazoo"}},
    ):
        with pytest.raises(UsageError) as caught:
            render(melody(), **wish)
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInputError, match="no notes"):
        render(Score())
    with pytest.raises(InvalidInputError, match="stream"):
        render(score_of((8000.0, 1.0, 60, 80, 0)))


def test_soundfonts_are_checked_before_they_are_played(tmp_path, monkeypatch):
    wrong = tmp_path / "wrong.sf2"
    wrong.write_bytes(b"RIFF\x10\0\0\0WAVEfmt ")
    with pytest.raises(InvalidInputError, match="no soundfont"):
        render(melody(), soundfont=wrong)
    cut = tmp_path / "cut.sf2"
    cut.write_bytes(b"RIFF\xff\xff\0\0sfbkLIST")
    with pytest.raises(InvalidInputError, match="cut off"):
        render(melody(), soundfont=cut)
    whole = tmp_path / "whole.sf2"
    whole.write_bytes(b"RIFF\x08\0\0\0sfbkLIST")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingResourceError, match="install"):
        render(melody(), soundfont=whole)


def test_high_rates_keep_the_pitch():
    for rate in (16_000, 48_000):
        sound = piano(69, 0.6, rate, rate)
        hertz, power = scipy.signal.periodogram(sound, rate, nfft=4 * rate)
        assert hertz[power.argmax()] % 440.0 == pytest.approx(0.0, abs=3.0)
