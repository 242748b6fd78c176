import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affetto.acting.rules import viseme_curves
from affetto.speech.content import SpeechContent
from affetto.speech.decide import decide, decided, timed_phones
from affetto.speech.phones import PHONE_INDEX, PHONES, TimedPhone

M, A, N = (PHONE_INDEX[name] for name in "man")


def doubtful(labels, sure):
    """Posteriors that give each frame's label `sure` and leave the rest to the others."""
    posteriors = np.full((len(labels), len(PHONES)), (1 - sure) / (len(PHONES) - 1), np.float32)
    posteriors[np.arange(len(labels)), labels] = sure
    return posteriors


def content_of(posteriors, closure=None):
    frames = len(posteriors)
    ones = np.ones(frames, np.float32)
    return SpeechContent(
        fps=50.0,
        phones=posteriors,
        closure=np.zeros(frames, np.float32) if closure is None else closure,
        loudness=ones,
        speaking=ones,
    )


def test_a_lone_doubtful_frame_joins_its_neighbours_and_a_sure_phone_stays():
    labels = np.array([A] * 6 + [N] + [A] * 6 + [M] * 4)
    posteriors = doubtful(labels, 0.9)
    posteriors[6] = doubtful(np.array([N]), 0.3)[0]
    posteriors[6, A] = 0.25
    path = decide(posteriors)
    assert path.tolist() == [A] * 13 + [M] * 4


def test_free_changes_give_the_likeliest_phone_of_each_frame():
    posteriors = np.random.default_rng(0).dirichlet(np.full(len(PHONES), 0.3), 40).astype(np.float32)
    assert np.array_equal(decide(posteriors, switch=0.0), posteriors.argmax(axis=1))


def score(path, posteriors, switch):
    emitted = np.log(np.maximum(posteriors, 1e-4))[np.arange(len(path)), path].sum()
    return emitted - switch * np.count_nonzero(np.diff(path))


@given(
    arrays(np.float64, (12, len(PHONES)), elements=st.floats(0.001, 1.0)),
    st.floats(0.1, 5.0),
    st.integers(0, 1000),
)
def test_no_other_path_is_better(weights, switch, seed):
    posteriors = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    best = decide(posteriors, switch=switch)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        other = best.copy()
        first, last = np.sort(rng.integers(0, 13, 2))
        other[first:last] = rng.integers(0, len(PHONES))
        assert score(other, posteriors, switch) <= score(best, posteriors, switch) + 1e-4


@given(st.lists(st.tuples(st.integers(0, len(PHONES) - 1), st.integers(3, 12)), min_size=1, max_size=12))
def test_what_is_decided_stays_so(runs):
    labels = np.concatenate([np.full(length, phone) for phone, length in runs])
    once = decided(content_of(doubtful(labels, 0.95)))
    again = decided(once)
    assert np.array_equal(once.phones, again.phones)
    assert set(np.unique(once.phones)) <= {0.0, 1.0}


def test_windows_decide_as_the_whole_does_away_from_their_ends():
    posteriors = np.random.default_rng(1).dirichlet(np.full(len(PHONES), 0.2), 600).astype(np.float32)
    whole = decide(posteriors)
    part = decide(posteriors[150:450])
    assert np.array_equal(part[30:-30], whole[180:420])


def test_nothing_gives_nothing():
    assert decide(np.zeros((0, len(PHONES)), np.float32)).shape == (0,)
    assert timed_phones(decided(content_of(np.zeros((0, len(PHONES)), np.float32)))) == ()


def test_decided_phones_come_back_as_they_were_said():
    said = [TimedPhone("m", 0.1, 0.2), TimedPhone("a", 0.2, 0.42), TimedPhone("s", 0.42, 0.5)]
    content = SpeechContent.from_phones(said, 0.6)
    phones = timed_phones(content)
    assert [phone.phone for phone in phones] == ["sil", "m", "a", "s", "sil"]
    assert all(abs(a.start - b.start) <= 0.011 for a, b in zip(phones[1:4], said, strict=True))
    assert phones[0].start == 0.0
    again = SpeechContent.from_phones(phones, 0.6)
    assert np.array_equal(again.phones, content.phones)


def test_a_bilabial_without_closure_leaves_the_lips_apart():
    labels = np.array([A] * 5 + [M] * 4 + [A] * 5)
    closed = np.zeros(len(labels), np.float32)
    closed[6:8] = 1.0
    for closure, expected in ((None, False), (closed, True)):
        (phone,) = [p for p in timed_phones(content_of(doubtful(labels, 1.0), closure)) if p.phone == "m"]
        assert phone.closes is expected


def test_very_short_phones_move_the_lips_without_a_jump():
    """Phones of one frame each: the articulators' inertia keeps the curves smooth."""
    rng = np.random.default_rng(2)
    labels = rng.integers(1, len(PHONES), 100)
    phones = timed_phones(content_of(doubtful(labels, 1.0)))
    curves = viseme_curves(phones, 2.0)
    assert np.abs(np.diff(curves, axis=0)).max() < 0.45
