import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from affetto.generators.music.adapter import MusicAdapter, music_vad
from affetto.generators.music.form import MusicRequest, parse_key, phrase_lengths, plan_piece, section_letters
from affetto.generators.music.harmony import SCALE, chord_classes_of, implied_valence, scale_classes
from affetto.runtime.errors import UsageError
from affetto.tokenizers.vocabulary import chord_id
from tests.generators.music.small import small_harmony


@given(st.integers(1, 512))
def test_phrases_fill_the_piece_and_every_phrase_has_a_letter(bars: int) -> None:
    lengths = phrase_lengths(bars)
    assert sum(lengths) == bars
    assert len(section_letters(len(lengths))) == len(lengths)


@settings(deadline=None, max_examples=10)
@given(
    st.floats(3.0, 120.0),
    st.sampled_from(["happy", "sad", "0:neutral; 5:angry; 9:relaxed", None]),
    st.sampled_from(["4/4", "3/4", "2/4"]),
    st.integers(0, 99),
)
def test_a_plan_lasts_exactly_as_long_as_asked(
    seconds: float, emotion: str | None, metre: str, seed: int
) -> None:
    plan = plan_piece(MusicRequest(emotion=emotion, seconds=seconds, metre=metre, seed=seed), small_harmony())
    assert plan.seconds == pytest.approx(seconds, abs=1e-6)
    assert all(len(bar.chords) == 4 for bar in plan.bars)


def test_a_cadence_closes_on_the_tonic_after_a_dominant() -> None:
    for seed in range(8):
        plan = plan_piece(MusicRequest(bars=8, key="G", seed=seed), small_harmony())
        assert plan.bars[-1].chords == ("G_M",) * 4
        assert plan.bars[-2].chords[3] in ("D_M", "D_7", "D_sus4", "C_M", "A_m", "A_m7")


def test_a_section_returns_with_its_chords() -> None:
    plan = plan_piece(MusicRequest(bars=16, seed=1), small_harmony())
    assert [bar.section for bar in plan.bars[::4]] == ["A", "A'", "B", "A''"]
    assert [bar.chords for bar in plan.bars[4:7]] == [bar.chords for bar in plan.bars[0:3]]
    assert plan.bars[4].repeats == 0


def test_chords_follow_valence_bar_by_bar() -> None:
    course = "0:vad(0.8,0,0); 20:vad(-0.8,0,0); 40:vad(0.8,0,0)"
    asked, heard = [], []
    for seed in range(4):
        plan = plan_piece(
            MusicRequest(emotion=course, bars=16, seconds=40.0, key="C", seed=seed), small_harmony()
        )
        chords = np.array([[chord_id(bar.chords[0]), chord_id(bar.chords[2])] for bar in plan.bars])
        asked += [bar.vad[0] for bar in plan.bars]
        heard += implied_valence(chords).tolist()
    assert spearmanr(asked, heard).statistic > 0.7


def test_a_bar_of_a_minor_chord_is_darker_than_one_of_a_major_chord() -> None:
    bright, dark = (implied_valence(np.full((1, 2), chord_id(name)))[0] for name in ("C_M", "A_m"))
    assert bright > 0.5
    assert dark < -0.5


def test_a_section_with_another_feeling_has_other_chords() -> None:
    course = "0:vad(0.8,0,0); 10:vad(0.8,0,0); 10.1:vad(-0.8,0,0)"
    plan = plan_piece(MusicRequest(emotion=course, bars=8, seconds=20.0, seed=1), small_harmony())
    assert plan.bars[4].section == "A'"
    assert plan.bars[4].repeats is None
    assert plan.bars[0].mode != plan.bars[5].mode


def test_sadness_is_slower_minor_and_softer_than_joy() -> None:
    glad, sad = (
        plan_piece(MusicRequest(emotion=e, bars=8), small_harmony()).bars[0] for e in ("happy", "sad")
    )
    assert (glad.mode, sad.mode) == ("major", "minor")
    assert glad.bpm > 1.2 * sad.bpm
    assert glad.faders["velocity"] > sad.faders["velocity"] + 2


def test_intensity_zero_plans_exactly_what_neutral_plans() -> None:
    plans = [
        plan_piece(MusicRequest(emotion=e, seconds=20.0), small_harmony())
        for e in ("angry@0", "neutral", None)
    ]
    assert plans[0] == plans[1] == plans[2]


def test_a_name_is_a_region_and_a_point_is_a_point() -> None:
    times = np.array([0.0])
    named = {tuple(music_vad("surprised", times, seed=seed)[0].round(6)) for seed in range(5)}
    points = {tuple(music_vad("vad(0.4,0.5,0)", times, seed=seed)[0].round(6)) for seed in range(5)}
    assert (len(named), len(points)) == (5, 1)


def test_the_adapter_gives_its_null_row_at_intensity_zero() -> None:
    adapter = MusicAdapter()
    given_ = adapter("happy@0", length=4, fps=2.0)["emotion"]
    assert given_.equal(adapter.null(length=4)["emotion"])
    assert adapter.schema["emotion"].accepts(given_)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C", (0, None)),
        ("F# major", (6, "major")),
        ("Am", (0, "minor")),
        ("bb minor", (1, "minor")),
        ("CM", (0, "major")),
    ],
)
def test_keys_are_read_as_musicians_write_them(text: str, expected: tuple[int, str | None]) -> None:
    assert parse_key(text) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"metre": "7/8"},
        {"bars": 0},
        {"seconds": 0.1},
        {"tempo": 1000.0},
        {"faders": {"volume": 3.0}},
        {"faders": {"density": 9.0}},
        {"ending": "explosion"},
    ],
)
def test_an_impossible_request_says_what_is_possible(wrong: dict) -> None:
    with pytest.raises(UsageError, match=r"use|lies in|lasts|has 1"):
        MusicRequest(**wrong)


def test_too_many_bars_for_the_time_are_refused() -> None:
    with pytest.raises(UsageError, match="give other --bars or --seconds"):
        plan_piece(MusicRequest(bars=100, seconds=5.0), small_harmony())


def test_what_fits_a_chord_does_not_rub_against_it() -> None:
    dominant = chord_id("E_7")
    assert chord_classes_of(dominant) == {4, 8, 11, 2}
    assert 7 not in scale_classes(dominant)
    assert 9 not in scale_classes(dominant)
    assert scale_classes(chord_id("C_M")) == SCALE


def test_a_plan_can_be_edited() -> None:
    plan = plan_piece(MusicRequest(bars=4), small_harmony())
    assert plan.with_bar(1, bpm=60.0).bars[1].bpm == 60.0
    other = plan.with_chords(["C_M", "F_M|G_7"])
    assert [bar.chords for bar in other.bars[:2]] == [("C_M",) * 4, ("F_M", "F_M", "G_7", "G_7")]
    with pytest.raises(UsageError, match="no chord is called"):
        plan.with_chords(["H_M"])


@pytest.mark.parametrize("name", ["happy", "sad", "disgusted", "calm"])
def test_half_of_an_emotion_lies_half_way_to_its_place(name: str) -> None:
    times = np.zeros(1)
    full = music_vad(name, times, seed=5)
    assert np.abs(full).max() > 0.3
    assert music_vad(f"{name}@0.5", times, seed=5) == pytest.approx(0.5 * full, abs=1e-6)
    assert not music_vad(f"{name}@0", times, seed=5).any()


def test_of_what_is_a_little_dark_a_share_is_in_the_relative_minor() -> None:
    def minor(valence: float) -> float:
        plans = [
            plan_piece(MusicRequest(emotion=f"vad({valence},0,0)", bars=8, seed=seed), small_harmony())
            for seed in range(16)
        ]
        return float(np.mean([[bar.mode == "minor" for bar in plan.bars] for plan in plans]))

    found = [minor(valence) for valence in (0.0, -0.1, -0.15, -0.2, -0.5)]
    assert found == pytest.approx([0.0, 0.29, 0.56, 0.86, 1.0], abs=0.1)
