import numpy as np
import pytest

from affetto.acting.lip_sync import lag_of
from affetto.conditioning.track import EmotionTrack
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.scene.sync import BAR_MS, Lag, face_lags, pooled


def curves(brow: np.ndarray, smile: np.ndarray, fps: float) -> FaceCurves:
    still = FaceCurves.neutral(len(brow), fps)
    weights = still.weights.copy()
    weights[:, ARKIT_INDEX["browInnerUp"]] = brow
    weights[:, ARKIT_INDEX["mouthSmileLeft"]] = smile
    return FaceCurves(fps=fps, weights=weights, head=still.head, eyes=still.eyes)


@pytest.mark.parametrize("lag_s", [-0.12, 0.0, 0.075])
def test_a_lag_is_found_to_the_millisecond(lag_s):
    rng = np.random.default_rng(0)
    times = np.arange(0, 12, 0.01)
    knots = rng.uniform(0, 1, 40)

    def course(at: np.ndarray) -> np.ndarray:
        return np.interp(at, np.linspace(-1, 13, 40), knots)

    cause = np.stack([course(times), course(times + 3)], axis=1)
    effect = (0.4 * course(times - lag_s) - 0.2 * course(times + 3 - lag_s))[:, None]
    found = lag_of(cause, effect + 0.01 * rng.standard_normal(effect.shape), fps=100.0)
    assert found is not None
    assert found[0] == pytest.approx(lag_s, abs=0.005)
    assert found[1] > 0.9


def test_no_lag_is_made_up_where_nothing_moves_or_nothing_fits():
    rng = np.random.default_rng(1)
    still = np.ones((500, 2))
    noise = rng.standard_normal((500, 3))
    assert lag_of(still, noise, fps=100.0) is None
    assert lag_of(rng.standard_normal((3000, 1)), rng.standard_normal((3000, 2)), fps=100.0) is None


def test_brows_that_come_late_are_told_apart_from_a_mouth_in_time():
    track = EmotionTrack.parse("0:neutral; 1.5:neutral; 1.8:surprised; 3:surprised; 3.4:neutral; 6:neutral")
    times = np.arange(0, 6, 1 / 50)
    felt = track.sample(times).anchors()[:, 6]
    late = track.sample(np.maximum(times - 0.1, 0)).anchors()[:, 6]
    lags = {
        lag.what: lag for lag in face_lags(curves(late, felt, 50.0), curves(0 * late, 0 * late, 50.0), track)
    }
    assert lags["emotion in the brows"].milliseconds == pytest.approx(100, abs=8)
    assert not lags["emotion in the brows"].holds
    assert lags["emotion around the mouth"].milliseconds == pytest.approx(0, abs=8)
    assert lags["emotion around the mouth"].holds


def test_lags_of_several_speakers_are_averaged_by_how_much_they_say():
    lags = [
        Lag(what="x", milliseconds=10.0, explained=0.9, seconds=10.0),
        Lag(what="x", milliseconds=100.0, explained=0.1, seconds=1.0),
    ]
    assert pooled(lags)[0].milliseconds == pytest.approx(10 + 90 * 0.1 / 9.1)
    assert BAR_MS == 40.0
