import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.taxonomies import TAXONOMIES, get_taxonomy
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import UsageError

SIZES = {"ekman6": 6, "ekman7": 7, "affectnet8": 8, "mead8": 8, "goemotions": 28, "plutchik": 24, "emonet-voice40": 40,
         "emopia4": 4}  # fmt: skip
LABELS = [
    (name, label) for name, t in TAXONOMIES.items() for label, p in zip(t.labels, t.places, strict=True) if p
]


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_every_label_set_has_its_size(name, size):
    assert len(get_taxonomy(name).labels) == size


@pytest.mark.parametrize(("name", "label"), LABELS)
def test_every_label_leads_to_an_emotion_and_back(name, label):
    taxonomy = get_taxonomy(name)
    emotion = taxonomy.emotion(label)
    shares = taxonomy.distribution(emotion)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda key: shares[key]) == label
    assert taxonomy.from_scores({label: 1.0}).effective_vad() == pytest.approx(
        emotion.effective_vad(), abs=1e-6
    )


@pytest.mark.parametrize(("name", "label"), LABELS)
def test_the_bare_place_of_a_label_ranks_it_among_the_first_three(name, label):
    taxonomy = get_taxonomy(name)
    place = taxonomy.emotion(label)
    bare = Emotion.from_vad(*place.vad, intensity=place.intensity)
    assert label in [found for found, _ in bare.to_labels(name, k=3)]


@given(st.lists(st.floats(0, 1), min_size=28, max_size=28).filter(lambda scores: sum(scores) > 0.1))
def test_goemotions_scores_round_trip(scores):
    taxonomy = get_taxonomy("goemotions")
    back = np.array(list(taxonomy.distribution(taxonomy.from_scores(scores)).values()))
    assert back == pytest.approx(np.array(scores) / sum(scores), abs=1e-4)


def test_mead_levels_are_intensities_and_come_back():
    mead = get_taxonomy("mead8")
    for level in (1, 2, 3):
        assert mead.best(mead.emotion("angry", level=level)) == ("angry", level)
    assert mead.best(Emotion.neutral())[0] == "neutral"
    with pytest.raises(UsageError, match="has 3 levels"):
        mead.emotion("angry", level=4)


def test_plutchik_tells_strength_by_the_word():
    wheel = get_taxonomy("plutchik")
    assert [wheel.best(Emotion.parse(f"angry@{i}"))[0] for i in (0.5, 0.8, 1.1)] == [
        "annoyance",
        "anger",
        "rage",
    ]
    love = wheel.dyad("love").to_labels("plutchik", k=2)
    assert {label for label, _ in love} == {"joy", "trust"}
    assert wheel.grouped(wheel.distribution(Emotion.parse("enraged")))["anger"] == pytest.approx(1)


def test_goemotions_groups_follow_the_official_ekman_grouping():
    groups = get_taxonomy("goemotions").groups
    assert len(groups["joy"]) == 12
    assert sum(len(labels) for labels in groups.values()) == 28


@pytest.mark.parametrize(
    ("text", "quadrant"), [("excited", "Q1"), ("angry", "Q2"), ("sad", "Q3"), ("relaxed", "Q4")]
)
def test_music_quadrants_follow_the_signs_of_valence_and_arousal(text, quadrant):
    (best, p), *_ = Emotion.parse(text).to_labels("emopia4")
    assert best == quadrant
    assert p > 0.9


def test_no_emotion_spreads_over_the_quadrants():
    shares = get_taxonomy("emopia4").distribution(Emotion.neutral())
    assert max(shares.values()) < 0.3


def test_a_label_without_a_place_says_so():
    with pytest.raises(UsageError, match="no place in valence"):
        get_taxonomy("emonet-voice40").emotion("Intoxication_Altered_States_of_Consciousness")
    with pytest.raises(UsageError, match="did you mean"):
        get_taxonomy("goemotions").emotion("admirashun")
    with pytest.raises(UsageError, match="unknown taxonomy"):
        get_taxonomy("nope")


def test_the_neutral_label_takes_what_intensity_leaves():
    shares = get_taxonomy("affectnet8").distribution(Emotion.parse("happy@0.3"))
    assert shares == pytest.approx({**dict.fromkeys(shares, 0.0), "Happy": 0.3, "Neutral": 0.7}, abs=1e-6)


def test_a_whole_track_is_labelled_at_once():
    batch = EmotionTrack.parse("0:neutral; 2:happy").sample(np.linspace(0, 2, 5))
    shares = get_taxonomy("mead8").distributions(batch)
    happy = get_taxonomy("mead8").labels.index("happy")
    assert shares[:, happy] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-6)
