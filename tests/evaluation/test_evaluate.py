import json
from importlib import resources
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from affetto.acting.expression import expression_pose
from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.calibration import AskGet, Calibration
from affetto.conditioning.encoders.emotion2vec_network import Emotion2vecConfig, Emotion2vecNetwork
from affetto.conditioning.track import EmotionTrack
from affetto.evaluation.choosing import ChoosingCritic
from affetto.evaluation.critics import measure_face, measure_music, measure_voice
from affetto.evaluation.evaluate import EvaluateOptions, evaluate
from affetto.evaluation.measuring import target_course, window_times
from affetto.evaluation.sweep import JUDGES, Curve, calibration_of, draw, markdown, rows_of, sweep
from affetto.media.animation.curves import FaceCurves
from affetto.media.animation.files import save_curves
from affetto.media.audio import Audio, load_audio, save_audio
from affetto.media.midi import Score, note_array, save_midi
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights.store import save_tensors


def posed(names: list[str], seconds_each: float = 2.0, fps: float = 25.0) -> FaceCurves:
    """A face that shows one emotion after the other, without speech."""
    frames = round(seconds_each * fps)
    anchors = np.repeat(np.eye(8)[[ANCHORS_8.index(name) for name in names]], frames, axis=0)
    weights = expression_pose(anchors, np.zeros((len(anchors), 3))).astype(np.float32)
    still = FaceCurves.neutral(len(weights), fps)
    return FaceCurves(fps=fps, weights=weights, head=still.head, eyes=still.eyes)


def piece(*, loud: bool, major: bool, seconds: float = 12.0) -> Score:
    """Chords and a tune, loud and busy or soft and slow."""
    step, velocity = (0.25, 100) if loud else (1.0, 42)
    third = 4 if major else 3
    rows = []
    for index, beat in enumerate(np.arange(0, seconds * 2, step)):
        rows.append((float(beat), step, (72, 72 + third, 79)[index % 3], velocity, 0))
        if index % 4 == 0:
            rows += [(float(beat), 4 * step, 48 + pitch, velocity, 0) for pitch in (0, third, 7)]
    return Score(notes=note_array(rows))


@pytest.fixture(scope="module")
def speech():
    with resources.as_file(resources.files("affetto.media") / "data" / "hello.flac") as path:
        return load_audio(path)


def test_the_face_critic_follows_a_face_over_time():
    measured = measure_face(posed(["happy", "sad"], seconds_each=4.0))
    assert measured.names[measured.shares[0].argmax()] == "happy"
    assert measured.names[measured.shares[-1].argmax()] == "sad"
    assert measured.vad[0, 0] > 0.3 > measured.vad[-1, 0]
    assert measured.track().at(0.5).effective_vad()[0] > 0


def test_music_cues_hear_loud_major_and_soft_minor_apart():
    glad, gloomy = (measure_music(piece(loud=loud, major=loud)) for loud in (True, False))
    assert glad.overall.effective_vad()[1] > gloomy.overall.effective_vad()[1] + 0.3
    assert glad.overall.effective_vad()[0] > gloomy.overall.effective_vad()[0]
    assert glad.critic.held_out
    assert not measure_music(piece(loud=True, major=True), encoder="formula").critic.held_out


def test_the_voice_critic_says_how_good_it_is_with_and_without_the_neutral_voice(speech):
    with_own, without = measure_voice(speech, neutral=speech), measure_voice(speech)
    assert ".80" in with_own.critic.accuracy
    assert "0.71" in without.critic.accuracy
    assert with_own.mixture["neutral"] > 0.3
    assert np.allclose(with_own.shares.sum(axis=1), 1.0)
    with pytest.raises(UsageError, match="no critic of voices"):
        measure_voice(speech, encoder="sparkle")


def test_what_was_asked_is_read_with_the_critics_own_window():
    track = EmotionTrack.parse("0:neutral; 2:neutral; 2.001:happy")
    sharp, soft = (
        target_course(track, np.array([1.5, 2.5]), window_s=window)[1][:, 1] for window in (0.0, 2.0)
    )
    assert sharp.tolist() == pytest.approx([0.0, 1.0])
    assert 0.1 < soft[0] < 0.5 < soft[1] < 1.0
    assert window_times(1.2, 2.0, 0.5) == [(0.0, 1.2)]
    assert window_times(5.3, 2.0, 0.5)[-1] == pytest.approx((3.3, 5.3))


def test_files_of_several_media_are_scored_against_one_track_and_each_other(tmp_path, speech):
    save_curves(tmp_path / "face.csv", posed(["happy", "sad"], 4.0))
    save_midi(tmp_path / "piece.mid", piece(loud=True, major=True, seconds=8.0))
    save_audio(tmp_path / "voice.wav", speech)
    track = EmotionTrack.parse("0:happy; 3.8:happy; 4.2:sad")
    options = EvaluateOptions(target=track, source=tmp_path / "voice.wav")
    found = evaluate([tmp_path / name for name in ("face.csv", "piece.mid", "voice.wav")], options)
    face, music, voice = (entry["media"][0] for entry in found["files"])
    assert face["scores"]["top1"] > 0.8
    assert face["scores"]["ccc"]["valence"] > 0.6
    assert abs(face["scores"]["transition"]["lag_s"]) < 0.5
    assert face["scores"]["mixture_js"] < 0.3 < voice["scores"]["mixture_js"]
    assert all(part["critic"]["accuracy"] for part in (face, music, voice))
    assert found["files"][2]["kept"]["words, DTW distance"] == pytest.approx(0.0, abs=1e-6)
    assert {tuple(pair["media"]) for pair in found["agreement"]} == {
        ("face", "music"), ("face", "voice"), ("music", "voice"),
    }  # fmt: skip
    assert set(found["calibration"]) == {"face", "music", "voice"}
    json.dumps(found, allow_nan=False)


def test_silence_single_notes_and_single_frames_cannot_be_judged():
    with pytest.raises(InvalidInputError, match="silent"):
        measure_voice(Audio(samples=np.zeros((1, 16_000), np.float32), rate=16_000))
    with pytest.raises(InvalidInputError, match="two notes"):
        measure_music(Score(notes=note_array([(0.0, 1.0, 60, 80, 0)])))
    with pytest.raises(InvalidInputError, match="two frames"):
        measure_face(FaceCurves.neutral(1, 25.0))


def test_the_critic_that_chooses_prefers_what_was_asked(speech):
    chooser = ChoosingCritic()
    track = EmotionTrack.parse("happy")
    assert chooser.face(posed(["happy"]), track) > chooser.face(posed(["angry"]), track)
    assert chooser.music(piece(loud=True, major=True), track) > chooser.music(
        piece(loud=False, major=False), track
    )
    assert chooser.voice(speech, speech, EmotionTrack.parse("neutral")) > chooser.voice(
        speech, speech, EmotionTrack.parse("angry")
    )


def test_a_sweep_of_the_face_rises_and_becomes_picture_table_and_calibration(tmp_path):
    curves = sweep(["face"], emotions=("happy",), strengths=(0.0, 0.5, 1.0), device="cpu")
    assert curves[0].got[0] == 0.0
    assert curves[0].got[-1] > 0.5
    assert curves[0].line.monotone
    assert draw(tmp_path / "a.png", curves).read_bytes() == draw(tmp_path / "b.png", curves).read_bytes()
    assert "| face | happy |" in markdown(rows_of(curves))
    path = calibration_of(curves).save(tmp_path / "c.json")
    assert isinstance(Calibration.load(path).curves["face"]["happy"], AskGet)
    with pytest.raises(UsageError, match="no generator"):
        sweep(["sparkle"])


def test_the_motion_of_a_portrait_is_swept_without_a_picture():
    (curve,) = sweep(["portrait"], emotions=("angry",), strengths=(0.0, 1.0), device="cpu")
    assert curve.critic == "face-critic"
    assert curve.got[1] > 0.5
    assert curve.verdict == "yes"


@pytest.mark.slow
def test_a_drawn_portrait_is_read_back_off_its_pixels(monkeypatch):
    monkeypatch.setattr("affetto.evaluation.sweep._FILM_S", 0.9)
    picture = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    (curve,) = sweep(["portrait"], emotions=("happy",), strengths=(0.0, 1.0), device="cpu", portrait=picture)
    assert curve.got[1] > 0.3  # three nats of evidence


def test_the_judges_that_choose_and_that_report_are_not_the_same():
    told = {
        judge: sweep(["face"], emotions=("sad",), strengths=(0.0, 0.5, 1.0), device="cpu", judge=judge)[0]
        for judge in JUDGES
    }
    assert {curve.critic for curve in told.values()} == {"face-critic", "poses of the rules"}
    assert told["choosing"].got[-1] == pytest.approx(1.0, abs=0.25)
    with pytest.raises(UsageError, match="no judge"):
        sweep(["face"], judge="me")


def test_a_curve_tells_how_sure_it_is():
    clips = np.array([[0.0, 0.2, 0.5], [0.0, 0.3, 0.4], [0.0, 0.1, 0.6]])
    curve = Curve(generator="music", emotion="sad", asked=(0.0, 0.5, 1.0), clips=clips, critic="x")
    assert curve.margin[2] == pytest.approx(1.96 * 0.1 / np.sqrt(3))
    step, margin = curve.least_step
    assert step == pytest.approx(0.2)
    assert margin == pytest.approx(1.96 * 0.1 / np.sqrt(3))
    alone = Curve(generator="music", emotion="sad", asked=(0.0, 0.5, 1.0), clips=clips[:1], critic="x")
    assert np.isnan(alone.margin).all()


def test_the_calibration_that_comes_with_affetto_makes_faces_milder_half_way_and_leaves_voices_alone():
    known = Calibration.named("embedded")
    assert known is not None
    track = EmotionTrack.parse("happy@0.5")
    assert 0.2 < known.applied(track, "face").keyframes[0].emotion.intensity < 0.45
    assert known.applied(track, "voice") == track
    full = EmotionTrack.parse("0:neutral; 1:sad")
    assert known.applied(full, "face") == full
    assert Calibration.named("none") is None


def test_a_curve_that_hardly_moves_is_called_flat_and_one_that_falls_is_called_so():
    def told(*got: float) -> str:
        clips = np.array([got])
        return Curve(
            generator="voice", emotion="calm", asked=(0.0, 0.5, 1.0), clips=clips, critic="c"
        ).verdict

    assert told(0.0, 0.02, 0.01) == "flat"
    assert told(0.0, 0.5, 0.3) == "no"
    assert told(0.0, -0.3, -0.6) == "no"
    assert told(0.0, 0.3, 0.9) == "yes"


def test_a_curve_is_the_mean_of_its_clips():
    curve = Curve(
        generator="voice",
        emotion="sad",
        asked=(0.0, 1.0),
        clips=np.array([[0.0, 0.4], [0.0, 0.8]]),
        critic="x",
    )
    assert curve.got.tolist() == pytest.approx([0.0, 0.6])


def test_a_published_critic_is_heard_once_its_weights_are_there(tmp_path, monkeypatch, speech):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError, match="affetto weights pull emotion2vec-base"):
        measure_voice(speech, encoder="emotion2vec-base")
    torch.manual_seed(0)
    config = Emotion2vecConfig(width=48, blocks=1, hidden=48, places=1, wave_width=8)
    network = Emotion2vecNetwork(config)
    metadata = {"format": "emotion2vec-1", "config": config.to_json()}
    target = tmp_path / "weights" / "emotion2vec-base.safetensors"
    target.parent.mkdir(parents=True)
    save_tensors(target, network.state_dict(), metadata)
    found = measure_voice(speech, encoder="emotion2vec-base")
    assert found.critic.held_out
    assert "no figure" in found.critic.accuracy
    assert {"angry", "disgusted", "fear", "happy", "neutral", "sad", "surprised"} == set(found.names)
    assert len(found.times) == len(found.vad) > 1
    assert found.shares.sum(axis=1) == pytest.approx(1.0)
