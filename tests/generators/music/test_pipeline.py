from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from scipy.ndimage import correlate1d

from affetto.generators.music.copycheck import CopyCheck
from affetto.generators.music.judging import Judge
from affetto.generators.music.pipeline import MusicComposer, MusicPiece
from affetto.generators.music.ringing import coloured, held
from affetto.generators.music.sampling import Written
from affetto.media.midi import SUSTAIN, load_midi, save_midi
from affetto.media.music import mode_valence
from affetto.provenance.verifying import verify_file
from affetto.runtime.errors import InvalidInputError, MissingResourceError, PolicyError, UsageError
from affetto.runtime.progress import CancelToken
from affetto.tokenizers.attributes import KEY_NEAR
from affetto.tokenizers.compound import encode
from tests.generators.music.small import little_song, small_composer


@pytest.fixture(scope="module")
def composer() -> MusicComposer:
    return small_composer()


@pytest.fixture(scope="module")
def piece(composer: MusicComposer) -> MusicPiece:
    return composer("0:sad; 6:happy", seconds=12.0, seed=3)


def same_notes(first: MusicPiece, second: MusicPiece) -> bool:
    return np.array_equal(first.score.notes, second.score.notes)


def test_the_piece_is_exactly_as_long_as_asked_and_two_readers_open_it(
    piece: MusicPiece, tmp_path: Path
) -> None:
    path = piece.save(tmp_path / "a.mid")
    assert piece.seconds == pytest.approx(12.0, abs=1e-3)
    assert load_midi(path).seconds == pytest.approx(12.0, abs=2e-3)
    assert pretty_midi.PrettyMIDI(str(path)).get_end_time() == pytest.approx(12.0, abs=2e-3)


def test_the_last_chord_is_the_tonic_over_its_root(composer: MusicComposer) -> None:
    for seed in range(2):
        made = composer(None, bars=4, key="D", seed=seed)
        last = made.score.notes[made.score.notes["start"] >= 12.0]
        assert {int(pitch) % 12 for pitch in last["pitch"]} <= {2, 6, 9}
        assert int(last["pitch"].min()) % 12 == 2
        assert int(last["pitch"].max()) % 12 == 2
        assert (last["start"] + last["duration"]).max() == 16.0


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    composer: MusicComposer, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{index}.mid" for index in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        composer("happy", bars=2, seed=seed).save(path)
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second != other


def test_intensity_zero_is_neutral_note_for_note(composer: MusicComposer) -> None:
    assert same_notes(composer("angry@0", bars=3, seed=4), composer(None, bars=3, seed=4))


def test_the_file_tells_the_emotion_as_controllers_and_the_chords_as_markers(piece: MusicPiece) -> None:
    controls = piece.score.controls
    assert {20, 21, 22, SUSTAIN} == set(controls["number"].tolist())
    valence = controls[controls["number"] == 20]["value"]
    assert valence[0] < 64 < valence[-1]
    assert piece.score.markers[0][1].startswith("A vad(")
    assert len(piece.words.bar_steps) == len(piece.plan.bars)


def test_a_picture_is_the_same_each_time(piece: MusicPiece, tmp_path: Path) -> None:
    first, second = (piece.save(tmp_path / f"{name}.png").read_bytes() for name in "ab")
    assert first[:4] == b"\x89PNG"
    assert first == second


def test_the_curve_has_a_row_for_each_bar(piece: MusicPiece) -> None:
    curve = piece.emotion_curve()
    assert curve.shape == (len(piece.plan.bars), 7)
    assert np.array_equal(curve[:, 0], piece.plan.starts[:-1])
    assert np.abs(curve[:, 1:]).max() <= 1.0


def test_the_calmer_the_longer_notes_ring_but_never_into_their_own_pitch(composer: MusicComposer) -> None:
    calm, wild = (composer.plan(f"vad(0,{arousal},0)", bars=4, seed=2) for arousal in (-0.8, 0.8))
    notes = [[0, 1, 60, 80, 1, 0], [0, 1, 40, 80, 0, 0], [3, 1, 40, 80, 0, 0], [8, 2, 62, 80, 1, 0]]
    rows = np.array(notes, np.float64)
    soft, hard = (held(rows, plan) for plan in (calm, wild))
    assert (soft[:, 1] >= hard[:, 1]).all()
    assert (hard[:, 1] >= rows[:, 1]).all()
    assert soft[:, 1].sum() > hard[:, 1].sum() > rows[:, 1].sum()
    assert soft[0, 1] <= 8.0  # the tune stops for its next note
    assert soft[1, 1] <= 3.0  # and a key before it is struck again
    assert soft[:, 1].max() <= 16.0


def test_tones_of_the_wanted_mode_ring_longer(composer: MusicComposer) -> None:
    bright, dark = (composer.plan(f"vad({valence},0,0)", bars=4, seed=2) for valence in (0.8, -0.8))
    notes = [[bar * 16.0, 2, pitch, 80, 0, bar] for bar in range(4) for pitch in (67, 64, 60, 57)]
    rows = np.array(notes, np.float64)
    glad, sad = (held(rows, plan) for plan in (bright, dark))
    lengths = [
        {name: part[rows[:, 2] == pitch, 1].sum() for name, pitch in (("A", 57), ("G", 67))}
        for part in (glad, sad)
    ]
    assert lengths[0]["G"] > lengths[0]["A"]
    assert lengths[1]["A"] > lengths[1]["G"]


def chords_of_c(bars: int) -> np.ndarray:
    """A bass, a sixth chord without direction and a tune in every bar: step, sixteenths, pitch, velocity, tune, bar."""
    notes = [(72, 2, 1), (69, 4, 0), (67, 4, 0), (64, 4, 0), (60, 4, 0), (48, 4, 0)]
    rows = [[bar * 16, size, pitch, 80, tune, bar] for bar in range(bars) for pitch, size, tune in notes]
    return np.array(rows, np.float64)


def heard_valence(rows: np.ndarray, bars: int) -> np.ndarray:
    place = rows[:, 5].astype(int) * 12 + rows[:, 2].astype(int) % 12
    classes = np.bincount(place, rows[:, 1], minlength=12 * bars).reshape(bars, 12)
    return mode_valence(correlate1d(classes, KEY_NEAR, axis=0, mode="constant"))


def test_lengths_alone_bring_bars_nearer_to_a_valence_in_both_directions(composer: MusicComposer) -> None:
    plan, rows = composer.plan(None, bars=6, seed=2, ending="open"), chords_of_c(6)
    usual = heard_valence(held(rows, plan), 6)
    for wanted in (np.full(6, 1.0), np.full(6, -1.0), np.linspace(-1.0, 1.0, 6)):
        played = coloured(rows, plan, wanted)
        missed = np.abs(heard_valence(played, 6) - wanted).mean()
        assert missed < 0.7 * np.abs(usual - wanted).mean()
        assert np.array_equal(played[:, [0, 2, 3, 4, 5]], rows[:, [0, 2, 3, 4, 5]])


def test_colouring_spares_tune_bass_and_final_chord_and_never_damps_below_half(
    composer: MusicComposer,
) -> None:
    plan, rows = composer.plan(None, bars=4, key="C", seed=2), chords_of_c(4)
    played = coloured(rows, plan, np.full(4, -2.0))
    spared = (rows[:, 4] > 0) | (rows[:, 2] < 50)
    assert (played[spared, 1] >= rows[spared, 1]).all()
    assert (played[:, 1] >= 0.5 * rows[:, 1]).all()
    assert (played[:, 1] < rows[:, 1]).any()
    last = rows[:, 5] == 3
    assert np.array_equal(played[last], held(rows, plan)[last])


def test_a_named_fader_outweighs_the_emotion_in_the_choice_of_versions(composer: MusicComposer) -> None:
    chord = (28, 32, 35, 40)
    versions = [
        Written(
            words=np.array(
                [
                    [4, bar, step, chord[step // gap % 4], 2, loud]
                    for bar in (0, 1)
                    for step in range(0, 16, gap)
                ]
            ),
            log_likelihood=-1.0,
        )
        for gap, loud in ((4, 9), (1, 18))  # calm and thin, loud and full
    ]
    for level, best in ((0.0, 0), (8.0, 1)):
        plan = composer.plan("calm", bars=2, seed=0, faders={"density": level})
        judge = Judge(plan, composer.model.scale)
        assert int(np.argmin([judge.cost(version, 0, 2, []) for version in versions])) == best


def test_stems_are_marked_as_the_mix_is(composer: MusicComposer, tmp_path: Path) -> None:
    made = composer(None, bars=3, seed=1, ensemble="ensemble")
    stems = made.save_stems(tmp_path / "a.wav")
    assert [path.name for path in stems] == [
        f"a-{part}.wav" for part in ("melody", "chords", "bass", "drums")
    ]
    assert verify_file(stems[0]).made


def test_an_ensemble_plays_the_same_notes_on_four_parts(composer: MusicComposer) -> None:
    solo, band = (composer("excited", bars=4, seed=6, ensemble=name) for name in ("piano", "ensemble"))
    assert [track.name for track in band.score.tracks] == ["Melody", "Chords", "Bass", "Drums"]
    pitched = band.score.pitched().notes
    assert sorted(pitched["pitch"].tolist()) == sorted(solo.score.notes["pitch"].tolist())
    assert len(band.score.notes) > len(pitched)


def test_nothing_sounds_over_the_seam_of_a_loop(composer: MusicComposer) -> None:
    made = composer("relaxed", bars=5, loop=True)
    assert (made.score.notes["start"] + made.score.notes["duration"]).max() <= 20.0
    assert made.plan.bars[-1].chords[3] != made.plan.bars[0].chords[0]


def test_an_edited_plan_is_performed(composer: MusicComposer) -> None:
    plan = composer.plan("happy", bars=3, key="C").with_chords(["A_m"])
    made = composer.perform(plan)
    assert [text for _, text in made.score.markers if text == "A_m"] == ["A_m"]


def test_three_four_has_three_beats(composer: MusicComposer) -> None:
    made = composer(None, bars=3, metre="3/4")
    assert made.score.meters == ((0.0, 3, 4),)
    assert made.score.beats == 9.0


def test_bars_outside_the_gap_stay_as_they_were(composer: MusicComposer, tmp_path: Path) -> None:
    save_midi(tmp_path / "x.mid", little_song(6))
    given = load_midi(tmp_path / "x.mid")
    made = composer("sad", like=tmp_path / "x.mid", infill=(3, 4)).score
    outside = [
        (made.notes["start"] < 8) | (made.notes["start"] >= 16),
        (given.notes["start"] < 8) | (given.notes["start"] >= 16),
    ]
    assert np.array_equal(made.notes[outside[0]], given.notes[outside[1]])
    assert not np.array_equal(made.notes[~outside[0]], given.notes[~outside[1]])


def test_a_continuation_begins_with_the_given_piece(composer: MusicComposer) -> None:
    given = little_song(4)
    made = composer("happy", like=given, mode="continue", bars=3)
    assert len(made.plan.bars) == 7
    head = made.score.notes[made.score.notes["start"] < 16]
    assert np.array_equal(head, given.notes)
    assert made.score.beats == 28.0


def test_a_variation_keeps_harmony_and_the_rhythm_of_the_tune(composer: MusicComposer) -> None:
    given = little_song(4)
    made = composer(None, like=given, seed=1, ending="open")
    assert made.plan.key == "C major"
    assert [bar.chords[0] for bar in made.plan.bars] == ["C_M", "A_m", "F_M", "G_M"]
    sung = np.concatenate(made.composition.bars)
    sung = sung[sung[:, 0] == 3]
    assert sorted(set((sung[:, 1] * 16 + sung[:, 2]).tolist())) == list(range(0, 64, 4))


def test_a_sad_variation_of_a_piece_in_major_has_its_degrees_in_minor(composer: MusicComposer) -> None:
    made = composer("sad", like=little_song(4), bars=4, ending="open")
    assert made.plan.key == "C minor"
    assert [bar.chords[0] for bar in made.plan.bars] == ["C_m", "G#_M", "F_m", "G_M"]


def test_a_borrowed_rhythm_gives_its_onsets(composer: MusicComposer) -> None:
    made = composer(None, like=little_song(4), mode="rhythm", ending="open", bars=4)
    assert sorted(set(made.score.notes["start"].tolist())) == [float(beat) for beat in range(16)]


def test_a_piece_that_stands_among_the_training_songs_is_composed_again(composer: MusicComposer) -> None:
    learned = composer(None, bars=12, seed=0)
    strict = small_composer(check=CopyCheck.of([learned.words]))
    assert strict.check.report(learned.words).copied
    again = strict(None, bars=12, seed=0)
    assert not again.copy.copied
    assert not same_notes(learned, again)


def test_when_every_attempt_copies_nothing_is_given(
    composer: MusicComposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affetto.generators.music.copycheck.MAX_LONGEST", -1)
    with pytest.raises(PolicyError, match="use another --seed"):
        composer(None, bars=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ensemble": "choir"}, "unknown ensemble"),
        ({"infill": (1, 2)}, "needs a piece"),
        ({"like": "x", "mode": "explode"}, "unknown mode"),
        ({"chords": ["C"]}, "no chord is called"),
    ],
)
def test_an_impossible_wish_is_a_usage_error(composer: MusicComposer, wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        composer(None, bars=2, **wrong)


def test_a_piece_without_notes_or_with_a_strange_metre_is_an_input_error(
    composer: MusicComposer, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="has none of"):
        composer(None, like=little_song(2, metre=(5, 4)))
    (tmp_path / "bad.mid").write_bytes(b"not music at all")
    with pytest.raises(InvalidInputError, match="MThd"):
        composer(None, like=tmp_path / "bad.mid")


def test_an_infill_beyond_the_piece_names_its_bars(composer: MusicComposer) -> None:
    with pytest.raises(UsageError, match=r"bars 1\.\.4"):
        composer(None, like=little_song(4), infill=(4, 9))


def test_another_suffix_is_refused(piece: MusicPiece, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use \.mid"):
        piece.save(tmp_path / "a.xyz")


def test_an_unknown_composer_is_missing() -> None:
    with pytest.raises(MissingResourceError, match="embedded"):
        MusicComposer.from_pretrained("muser-that-is-not-here")


def test_composing_can_be_cancelled(composer: MusicComposer) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Exception, match="cancelled"):
        composer(None, bars=4, cancel=token)


def test_words_of_a_piece_decode_to_its_notes(piece: MusicPiece) -> None:
    again = encode(piece.score)
    assert int(again.is_note.sum()) == len(piece.score.notes)
