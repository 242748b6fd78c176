import numpy as np
import pytest

from affetto.runtime.errors import UsageError
from affetto.tokenizers.token_metrics import dci, mig, mutual_information, sap, swap_matrix

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 5, (3000, 3))


def test_latents_that_are_the_factors_score_one_in_any_order():
    latents = FACTORS[:, [2, 0, 1]] * 1.5 - 1.0
    found = dci(latents, FACTORS, strength=0.001)
    assert mig(latents, FACTORS) > 0.97
    assert sap(latents, FACTORS) > 0.97
    assert found.disentanglement > 0.99
    assert found.completeness > 0.99
    assert found.informativeness > 0.99


def test_mixed_factors_are_informative_but_not_disentangled():
    turn = np.array([[1.0, 0.6, 0.6], [0.6, 1.0, -0.6], [-0.6, 0.6, 1.0]])
    found = dci(FACTORS @ turn, FACTORS, strength=0.001)
    plain = mig(FACTORS.astype(float), FACTORS)
    assert mig(FACTORS @ turn, FACTORS) < 0.5 * plain
    assert found.informativeness > 0.95
    assert found.disentanglement < 0.5


def test_noise_scores_nothing():
    noise = RNG.normal(size=(3000, 4))
    assert mig(noise, FACTORS) < 0.02
    assert sap(noise, FACTORS) < 0.02
    assert dci(noise, FACTORS, strength=0.05).informativeness < 0.01


def test_two_copies_of_a_factor_leave_no_gap():
    latents = np.concatenate([FACTORS, FACTORS], axis=1)
    assert mig(latents, FACTORS) == pytest.approx(0.0, abs=1e-9)
    assert sap(latents, FACTORS) == pytest.approx(0.0, abs=1e-9)


def test_information_of_a_latent_about_itself_is_its_entropy():
    shared, entropy = mutual_information(FACTORS, FACTORS)
    assert np.allclose(np.diag(shared), entropy)
    assert entropy[0] == pytest.approx(np.log(5), abs=0.01)
    assert shared[0, 1] < 0.01


def measure(mixing):
    return lambda codes: codes[:, :, 0].astype(np.float64) @ mixing


def test_the_swap_matrix_of_separate_groups_is_the_identity():
    codes = RNG.integers(0, 9, (200, 3, 1))
    found = swap_matrix(measure(np.eye(3)), codes, groups=("a", "b", "c"), attributes=("x", "y", "z"))
    assert np.allclose(found.moved, np.eye(3))
    assert found.diagonal_dominant
    assert found.leakage == 0.0
    assert found.table().splitlines()[2] == "| a | 1.00 | 0.00 | 0.00 |"


def test_leaking_groups_show_off_the_diagonal():
    codes = RNG.integers(0, 9, (400, 2, 1))
    mixing = np.array([[1.0, 2.0], [0.0, 1.0]])
    found = swap_matrix(measure(mixing), codes, groups=("a", "b"), attributes=("x", "y"))
    assert found.moved[0, 0] == pytest.approx(1.0)
    assert found.moved[0, 1] > 0.6
    assert not found.diagonal_dominant
    assert found.leakage > 0.3


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match="same two or more"):
        mig(FACTORS[:3], FACTORS)
    with pytest.raises(UsageError, match="no factor changes"):
        mig(FACTORS, np.zeros((3000, 1)))
    with pytest.raises(UsageError, match="six samples"):
        dci(FACTORS[:4], FACTORS[:4])
    with pytest.raises(UsageError, match="2 groups"):
        swap_matrix(
            measure(np.eye(2)), np.zeros((5, 3, 1), np.int64), groups=("a", "b"), attributes=("x", "y")
        )
