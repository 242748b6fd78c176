import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affetto.generators.voice.bank_data import SpokenPhone
from affetto.generators.voice.controls import BANDS, VoiceControls
from affetto.generators.voice.pairs import Take, align, match, pair_residual


def _take(
    seconds=(0.1, 0.2, 0.2, 0.1),
    hertz=120.0,
    tilt=0.0,
    level=-20.0,
    heard=np.inf,
    names=("sil", "a", "n", "sil"),
):
    bounds = np.concatenate([[0.0], np.cumsum(seconds)])
    frames = round(bounds[-1] * 100)
    times = np.arange(frames) / 100
    speaking = (times >= bounds[1]) & (times < bounds[-2])
    slope = tilt * np.linspace(-1, 1, BANDS)
    controls = VoiceControls(
        log_f0=np.full(frames, np.log(hertz), np.float32),
        voiced=speaking.astype(np.float32),
        energy=np.where(speaking, level, -80.0).astype(np.float32),
        envelope=np.tile(slope, (frames, 1)).astype(np.float32),
        aperiodicity=np.full((frames, 3), 0.2, np.float32),
    )
    phones = tuple(
        SpokenPhone(name, float(a), float(b))
        for name, a, b in zip(names, bounds[:-1], bounds[1:], strict=True)
    )
    return Take(
        name="t", speaker="s", text="w", emotion="neutral", controls=controls, phones=phones,
        embedding=np.zeros(256), heard_s=heard,
    )  # fmt: skip


def test_a_take_differs_from_itself_in_nothing():
    take = _take()
    pair = pair_residual(take, take, align(take, take))
    assert np.abs(pair.residual).max() < 1e-5
    assert pair.trust[15:45].min() > 0.9


def test_pitch_colour_and_tempo_of_another_take_are_found():
    one, other = _take(), _take(seconds=(0.1, 0.4, 0.4, 0.1), hertz=240.0, tilt=6.0)
    pair = pair_residual(one, other, align(one, other))
    middle = pair.residual[20:40]
    np.testing.assert_allclose(middle[:, 0], 12.0, atol=0.05)
    np.testing.assert_allclose(middle[:, 29], np.log(2.0), atol=0.05)
    np.testing.assert_allclose(middle[:, 2 + BANDS - 1] - middle[:, 2], 12.0, atol=0.1)


def test_a_louder_recording_is_not_an_emotion():
    one, other = _take(), _take(level=-8.0)
    pair = pair_residual(one, other, align(one, other))
    assert np.abs(pair.residual[24:36, 1]).max() < 0.1


def test_what_was_cut_off_is_not_trusted():
    one, other = _take(), _take(heard=0.35)
    pair = pair_residual(one, other, align(one, other))
    assert pair.trust[12:28, 1].min() == 1.0
    assert pair.trust[32:].max() == 0.0


def test_takes_without_phones_in_common_give_nothing_to_trust():
    one, other = _take(names=("sil",) * 4), _take(names=("a",) * 4)
    alignment = align(one, other)
    assert len(alignment) == 0
    assert not pair_residual(one, other, alignment).trust.any()


@given(
    st.lists(st.sampled_from(["a", "n", "t", "sil"]), max_size=12),
    st.lists(st.sampled_from(["a", "n", "sil"]), max_size=12),
)
def test_matched_phones_keep_their_order_and_pauses_stay_among_themselves(one, other):
    pairs = match(one, other)
    rows, columns = [p[0] for p in pairs], [p[1] for p in pairs]
    assert rows == sorted(set(rows))
    assert columns == sorted(set(columns))
    assert all((one[row] == "sil") == (other[column] == "sil") for row, column in pairs)
    assert match(one, one) == [(index, index) for index in range(len(one))]
