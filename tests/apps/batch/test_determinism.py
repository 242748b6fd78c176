"""The same bytes: again, and however much of a job is computed at once."""

from importlib import resources

import numpy as np
import pytest

from affetto.apps.batch.engines import Workshop
from affetto.apps.batch.plan import plan_job
from affetto.apps.batch.specs import JOB
from affetto.runtime.memory import Layout, laid_out
from affetto.runtime.progress import CancelToken

SPEECH = str(resources.files("affetto.media") / "data" / "hello.flac")
JOBS = {
    "face": {"generator": "face", "audio": SPEECH, "emotion": "happy", "output": "a.csv"},
    "voice": {"generator": "voice", "audio": SPEECH, "emotion": "sad", "output": "a.wav"},
    "music": {"generator": "music", "emotion": "calm", "seconds": 4.0, "output": "a.mid"},
}


def made(folder, kind):
    """The bytes of a small job by generators that were loaded anew."""
    folder.mkdir()
    planned = plan_job(JOB.validate_python(JOBS[kind]))
    Workshop(device="cpu").make(
        planned, folder / planned.spec.output, progress=lambda _event: None, cancel=CancelToken()
    )
    return (folder / planned.spec.output).read_bytes()


@pytest.mark.parametrize("kind", JOBS)
def test_generators_that_are_loaded_anew_give_the_same_bytes(tmp_path, kind):
    assert made(tmp_path / "one", kind) == made(tmp_path / "two", kind)


def test_how_many_windows_are_read_at_once_changes_only_rounding():
    from affetto.media.audio import load_audio
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
