import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.conditioning.encoders.base import EmotionEncoder
from affetto.conditioning.encoders.midi import MidiEncoder
from affetto.media.music import attributes_of
from affetto.runtime.errors import InvalidInputError, UsageError

ENCODER = MidiEncoder()
MAJOR, MINOR = (0, 4, 7, 12, 11, 9, 7, 5, 4, 2), (0, 3, 7, 12, 10, 8, 7, 5, 3, 2)


def _score(degrees, *, velocity=60, gap=0.25, duration=0.25, count=64, octave=60):
    """A tune over a bass that walks the same scale two octaves below."""
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 120))
    track = symusic.Track(program=0)
    for index in range(count):
        start, ticks = int(index * gap * 960), int(duration * 960)
        pitch = octave + degrees[index % len(degrees)]
        track.notes.append(symusic.Note(start, ticks, pitch, velocity))
        if index % 4 == 0:
            track.notes.append(symusic.Note(start, ticks, pitch - 24, velocity))
    score.tracks.append(track)
    return score


def test_major_is_more_positive_than_minor():
    assert ENCODER.read(_score(MAJOR)).vad[0] > ENCODER.read(_score(MINOR)).vad[0] + 0.2


@pytest.mark.parametrize("livelier", [{"velocity": 95}, {"gap": 0.1}, {"duration": 0.05}])
def test_louder_denser_and_shorter_notes_raise_arousal(livelier):
    calm = {"velocity": 50, "gap": 0.4, "duration": 1.0}
    assert ENCODER.read(_score(MAJOR, **calm | livelier)).vad[1] > ENCODER.read(_score(MAJOR, **calm)).vad[1]


def test_a_lively_major_tune_is_happy_and_a_slow_soft_minor_one_is_sad():
    lively = ENCODER.overall(_score(MAJOR, velocity=85, gap=0.12, duration=0.15))
    slow = ENCODER.overall(_score(MINOR, velocity=35, gap=0.8, duration=1.8, octave=55))
    assert lively.vad[0] > 0 < lively.vad[1]
    assert slow.vad[0] < 0 > slow.vad[1]
    assert slow.anchors()[2] > lively.anchors()[2]  # sad


def test_a_file_gives_what_its_score_gives(tmp_path):
    score = _score(MAJOR)
    score.dump_midi(tmp_path / "tune.mid")
    assert np.allclose(ENCODER.read(tmp_path / "tune.mid").vad, ENCODER.read(score).vad, atol=1e-6)


def test_an_empty_score_is_neutral_with_no_confidence(tmp_path):
    empty = symusic.Score(480)
    empty.dump_midi(tmp_path / "empty.mid")
    for source in (empty, tmp_path / "empty.mid"):
        emotion = ENCODER.overall(source)
        assert (emotion.intensity, emotion.confidence) == (0.0, 0.0)
        assert ENCODER(source).at(3.0).intensity == 0


def test_drums_alone_say_nothing():
    score = _score(MAJOR)
    score.tracks[0].is_drum = True
    assert ENCODER.overall(score).intensity == 0


def test_the_track_follows_a_change_of_mood():
    loud, soft = (
        _score(MAJOR, velocity=100, gap=0.1, duration=0.1, count=120),
        _score(MINOR, velocity=30, gap=0.6),
    )
    for note in soft.tracks[0].notes:
        note.start = note.start + 13 * 960
        loud.tracks[0].notes.append(note)
    track = ENCODER(loud)
    assert track.at(4.0).effective_vad()[1] > track.at(40.0).effective_vad()[1] + 0.5


@pytest.mark.parametrize(
    "content", [b"", b"MThd", b"hello, this is text", b"MThd\x00\x00\x00\x06\x00\x01\xff\xff\x01\xe0MTrk\x00"]
)
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bad.mid"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"bad\.mid: ") as caught:
        ENCODER.read(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_impossible_windows_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="no such file"):
        ENCODER.read(tmp_path / "none.mid")
    with pytest.raises(UsageError, match="window must lie in"):
        ENCODER(_score(MAJOR), window=0.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 20), st.integers(0, 127), st.integers(0, 127)), max_size=30
    )
)
@settings(deadline=None, max_examples=40)
def test_any_notes_give_finite_attributes(rows):
    found = attributes_of(np.array(rows, np.float64).reshape(-1, 4))
    assert found is None or np.isfinite([found.density, found.major, found.clarity, found.duration]).all()


def test_it_is_an_encoder():
    assert isinstance(ENCODER, EmotionEncoder)
