import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.conditioning.calibration import AskGet, Calibration
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import InvalidInputError

STEPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
LATE = AskGet(asked=STEPS, got=np.array([0.0, 0.02, 0.1, 0.4, 0.8]))
CARD = Calibration(curves={"voice": {"happy": LATE}}, critics={"voice": "someone"})


def test_asking_through_the_curve_gives_what_was_wished():
    for wish in (0.15, 0.3, 0.5, 0.9):
        got = np.interp(LATE.ask_for(wish), LATE.asked, LATE.got) / LATE.got[-1]
        assert got == pytest.approx(wish, abs=0.01)
    assert float(LATE.ask_for(1.4)) == pytest.approx(1.4)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_more_is_never_got_by_asking_less_and_nothing_for_nothing(got):
    curve = AskGet(asked=STEPS, got=np.array(got))
    asked = curve.ask_for(np.linspace(0, 1, 21))
    assert asked[0] == 0.0
    assert np.all(np.diff(asked) >= -1e-9)
    assert asked[-1] <= 1.0 + 1e-9


def test_a_track_is_translated_for_the_modality_and_emotions_that_are_known():
    track = EmotionTrack.parse("0:neutral; 1:happy@0.5; 2:sad@0.5")
    moved = CARD.applied(track, "voice")
    assert moved.keyframes[1].emotion.intensity == pytest.approx(float(LATE.ask_for(0.5)))
    assert moved.keyframes[0] == track.keyframes[0]
    assert moved.keyframes[2] == track.keyframes[2]
    assert CARD.applied(track, "face") is track


def test_a_calibration_survives_its_file_and_other_files_are_refused(tmp_path):
    path = CARD.save(tmp_path / "c.json")
    read = Calibration.load(path)
    assert read.critics == {"voice": "someone"}
    assert np.allclose(read.curves["voice"]["happy"].got, LATE.got)
    for text in ("[]", '{"format": "affetto-calibration", "curves": 3, "critics": {}}', "{"):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match="no calibration"):
            Calibration.load(path)
