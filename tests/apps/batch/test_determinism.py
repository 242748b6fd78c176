"""The same bytes: again, whatever a worker made before, however much is computed at once; a stream against the whole."""

import json
from importlib import resources
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from affetto.apps.batch.engines import Workshop
from affetto.apps.batch.plan import plan_job
from affetto.apps.batch.specs import JOB
from affetto.media.audio import Audio, load_audio, save_audio
from affetto.runtime.memory import Layout, laid_out
from affetto.runtime.progress import CancelToken

SPEECH = str(resources.files("affetto.media") / "data" / "hello.flac")
PHOTO = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
MARKS = Path(__file__).parents[2] / "generators" / "portrait" / "marks" / "grace_hopper.json"
PORTRAIT = {"portrait": str(PHOTO), "landmarks": str(MARKS), "size": 256}
KINDS = ("face", "voice", "music", "talk", "render")


def job(kind, folder):
    """A small job of a kind; all that it reads lies in `folder`."""
    spoken = {"audio": str(folder / "speech.wav"), "emotion": "0:happy; 0.6:sad", "seed": 4}
    return {
        "face": {**spoken, "output": "face.csv"},
        "voice": {**spoken, "output": "voice.wav"},
        "music": {"emotion": "calm", "seconds": 4.0, "output": "music.mid"},
        "talk": {**spoken, **PORTRAIT, "output": "talk.mp4"},
        "render": {"scene": str(folder / "scene.json"), "output": "render/recipe.json"},
    }[kind] | {"generator": kind}


def make(workshop, kind, folder, target):
    """The bytes of all files that a job writes, by name."""
    planned = plan_job(JOB.validate_python(job(kind, folder)))
    place = target / planned.spec.output
    workshop.make(planned, place, progress=lambda _event: None, cancel=CancelToken())
    written = place.parent.iterdir() if kind == "render" else place.parent.glob(f"{kind}.*")
    own = "recipe.json"  # of a scene: holds the way to its inputs
    return {path.name: path.read_bytes() for path in written if path.name != own}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_audio(folder / "speech.wav", load_audio(SPEECH).sliced(0.0, 1.1))
    scene = {
        "size": 64, "speech": {"audio": "speech.wav", "text": "Hello, I am so happy!", "emotion": "happy"},
        "music": {"tail": 0.2}, "outputs": ["voice", "curves", "mesh", "head", "mix", "score", "track", "timeline"],
    }  # fmt: skip
    (folder / "scene.json").write_text(json.dumps(scene))
    return folder


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """What workers make that make one thing each."""
    return {kind: make(Workshop(device="cpu"), kind, folder, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def together(folder, tmp_path_factory):
    """What one worker makes that makes all, in another order."""
    workshop, target = Workshop(device="cpu"), tmp_path_factory.mktemp("together")
    return {kind: make(workshop, kind, folder, target) for kind in reversed(KINDS)}


@pytest.mark.parametrize("kind", KINDS)
def test_generators_that_are_loaded_anew_give_the_same_bytes_whatever_a_worker_made_before(
    alone, together, kind
):
    assert len(alone[kind]) == (13 if kind == "render" else 2)
    assert alone[kind] == together[kind]


def test_how_many_windows_are_read_at_once_changes_only_rounding():
    from affetto.speech.reader import ContentReader

    speech = load_audio(SPEECH).resampled(16_000).mono()
    speech = np.tile(speech, 4)[: 20 * 16_000]
    reader = ContentReader.from_pretrained(device="cpu")
    both = reader(speech)
    with laid_out(Layout(together=1)):
        single = reader(speech)
    with laid_out(Layout(together=1, shorter=2)):
        shorter = reader(speech)
    np.testing.assert_allclose(single.phones, both.phones, atol=1e-4)
    assert not np.array_equal(shorter.phones, both.phones)  # pieces were cut elsewhere
    assert np.abs(shorter.phones - both.phones).mean() < 0.02


def test_a_face_that_streams_is_the_face_of_a_call_and_no_seam_shows():
    from affetto.generators.face.pipeline import FaceAnimator

    speech = load_audio(SPEECH)
    long_speech = Audio(samples=np.tile(speech.samples, (1, 3))[:, : 14 * speech.rate], rate=speech.rate)
    animator = FaceAnimator.from_pretrained("embedded", device="cpu")
    pieces = list(animator.stream(long_speech, "happy"))
    whole = animator(long_speech, "happy").curves
    streamed = np.concatenate([piece.weights for _, piece in pieces])
    assert len(pieces) > 1
    assert streamed.shape == whole.weights.shape
    assert np.abs(streamed - whole.weights).mean() < 0.01
    steps = np.abs(np.diff(streamed, axis=0)).max(axis=1)
    seams = np.cumsum([len(piece) for _, piece in pieces])[:-1] - 1
    assert steps[seams].max() <= np.delete(steps, seams).max()
