import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.conditioning.anchors import ANCHORS_8, anchor_weights
from affetto.conditioning.charts import CHARTS, complete_dominance, get_chart, lexical_chart, transport
from affetto.conditioning.compound import compound_chart, compound_emotions, contradiction
from affetto.conditioning.lexicon import LEXICON
from affetto.runtime.errors import UsageError

POINTS = st.tuples(*(st.floats(-1, 1) for _ in range(3))).map(np.array)
EIGHT = lexical_chart(ANCHORS_8, background=0.0, tuned=False)
EVERYTHING = lexical_chart(list(LEXICON))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.8, 0.5, 0.4), {"happy": 0.91, "surprised": 0.08}),
        ((0.4, 0.6, -0.1), {"surprised": 0.85}),
        ((-0.5, 0.6, 0.3), {"angry": 0.51, "disgusted": 0.30, "contempt": 0.17}),
        ((-0.6, 0.6, -0.4), {"fear": 0.72}),
        ((-0.6, -0.3, -0.3), {"sad": 0.89}),
        ((0.0, 0.0, 0.0), {"neutral": 0.96}),
        ((0.5, 0.2, 0.2), {"happy": 0.41, "surprised": 0.30, "contempt": 0.28}),
        ((0.6, -0.5, 0.1), {"contempt": 0.92}),
    ],
)
def test_the_posterior_of_eight_published_gaussians_gives_the_reference_values(point, expected):
    found = dict(EIGHT.labels(point, k=8))
    for name, p in expected.items():
        assert found[name] == pytest.approx(p, abs=0.006)


@pytest.mark.parametrize(
    ("point", "best", "p"),
    [
        ((0.6, -0.5, 0.1), "relaxed", 0.89),
        ((0.5, 0.2, 0.2), "tender", 0.41),
        ((-0.6, -0.6, -0.3), "sad", 0.50),
        ((0.6, 0.7, 0.4), "excited", 0.39),
        ((0.0, -0.6, 0.5), "relaxed", 0.45),
    ],
)
def test_our_chart_has_no_hole_at_calm_pleasant_points(point, best, p):
    name, found = CHARTS["lexical"].labels(point)[0]
    assert (name, found) == (best, pytest.approx(p, abs=0.04))


@given(POINTS, st.sampled_from(sorted(CHARTS)))
def test_a_posterior_is_a_distribution(point, chart):
    p = CHARTS[chart].posterior(point)
    assert p.sum() == pytest.approx(1)
    assert (p >= 0).all()
    assert anchor_weights(point).sum() == pytest.approx(1)


def test_the_quick_density_equals_scipys_normal():
    from scipy.stats import multivariate_normal

    chart = lexical_chart(ANCHORS_8, correlated=True, tuned=False)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    for index in range(8):
        expected = multivariate_normal(chart.mean[index], chart.cov[index]).logpdf(points) - np.log(8)
        assert chart.log_density(points)[:, index] == pytest.approx(expected, rel=1e-8)


def test_the_authors_correlations_make_proper_covariances():
    chart = lexical_chart(ANCHORS_8, correlated=True)
    assert np.linalg.eigvalsh(chart.cov).min() >= 1e-6 - 1e-12


@pytest.mark.parametrize("name", [name for name in LEXICON if name != "neutral"])
def test_the_place_of_every_term_leads_back_to_it_among_the_first_three(name):
    assert name in [label for label, _ in EVERYTHING.labels(LEXICON[name].vad, k=3)]


@pytest.mark.parametrize("chart", sorted(CHARTS))
def test_inverting_a_pure_label_gives_a_point_the_chart_reads_as_it(chart):
    for name in CHARTS[chart].names:
        point = CHARTS[chart].invert({name: 1.0})
        assert CHARTS[chart].posterior(point)[CHARTS[chart].names.index(name)] >= 0.3


def test_a_mixture_inverts_to_a_point_between_its_parts():
    chart = CHARTS["lexical"]
    middle = chart.invert({"happy": 0.5, "sad": 0.5}, refine=False)
    assert middle == pytest.approx((chart.mean_of("happy") + chart.mean_of("sad")) / 2)


def test_a_contradicting_annotation_is_pulled_just_inside_its_label():
    pulled = CHARTS["lexical"].pulled((0.8, 0.5, 0.4), "sad")
    assert CHARTS["lexical"].labels(list(pulled))[0][0] == "sad"
    assert np.linalg.norm(pulled - CHARTS["lexical"].mean_of("sad")) > 0.05
    assert CHARTS["lexical"].pulled((-0.63, -0.27, -0.33), "sad") == pytest.approx((-0.63, -0.27, -0.33))


def test_class_mixture_transport_moves_each_label_to_its_place_on_the_face():
    words, faces = CHARTS["lexical"], CHARTS["face"]
    moved = transport(words.mean, "lexical", "face")
    change = dict(zip(words.names, moved - words.mean, strict=True))
    assert change["happy"][1] < -0.25  # a smile is calmer than the word happy
    assert change["contempt"][1] > 0.1
    assert change["fear"][0] > 0.3
    assert np.abs(moved - faces.mean).mean() < 0.1


@given(POINTS)
def test_transport_to_the_same_chart_changes_nothing(point):
    assert transport(point, "lexical", "lexical") == pytest.approx(point, abs=1e-9)


def test_transport_stays_in_the_cube_and_keeps_the_dtype():
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    for target in CHARTS:
        moved = transport(points, "lexical", target)
        assert np.abs(moved).max() <= 1
        assert moved.dtype == np.float32


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_completed_dominance_stays_in_range(valence, arousal):
    for label in (None, "happy", "fear", "bored"):
        assert abs(float(complete_dominance(np.array(valence), np.array(arousal), label=label))) <= 1


def test_completed_dominance_at_a_class_centre_is_the_class_mean():
    v, a, d = LEXICON["angry"].vad
    assert float(complete_dominance(np.array(v), np.array(a), label="angry")) == pytest.approx(d)


def test_the_vocabulary_gathers_into_fourteen_compounds():
    compounds = compound_emotions()
    assert len(compounds) == 14
    assert sum(len(compound.terms) for compound in compounds) == 152
    assert {"neutral", "happy", "sad", "angry", "fear", "surprised", "disgusted"} <= {
        c.name for c in compounds
    }
    assert compound_chart().labels((-0.5, 0.6, 0.3))[0][0] == "angry"


def test_moment_matching_keeps_mean_and_spread():
    from affetto.conditioning.compound import merge_moments

    mean, sd = merge_moments(np.array([[-0.5, 0, 0], [0.5, 0, 0]]), np.full((2, 3), 0.1))
    assert mean == pytest.approx([0, 0, 0])
    assert sd == pytest.approx([np.sqrt(0.26), 0.1, 0.1])


def test_contradictions_are_measured_by_the_product_of_the_parts():
    assert contradiction({"happy": 0.5, "sad": 0.5}) == pytest.approx(0.25)
    assert contradiction({"sad": 0.5, "fear": 0.5}) == 0


def test_an_unknown_chart_or_class_is_named_with_what_there_is():
    with pytest.raises(UsageError, match="use lexical, face, voice, music"):
        get_chart("smell")
    with pytest.raises(UsageError, match="has no class 'hungry'"):
        CHARTS["face"].mean_of("hungry")
