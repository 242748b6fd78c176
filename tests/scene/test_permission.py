import matplotlib
import pytest

from affetto.provenance.consent import Consent, ConsentBook
from affetto.runtime.errors import PolicyError
from affetto.scene.director import Director
from affetto.scene.model import Scene
from tests.scene.small import hello

PORTRAIT = f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg"


@pytest.fixture(autouse=True)
def strict(tmp_path, monkeypatch):
    """An installation that requires consent, and a user who has stated none."""
    monkeypatch.setenv("AFFETTO_CONSENT", "required")
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    hello(tmp_path)


def scene(**speaker: object) -> Scene:
    return Scene.model_validate(
        {"speech": {"audio": "hello.wav"}, "speaker": speaker, "outputs": ["voice", "mix"]}
    )


def test_where_consent_is_required_a_recording_of_nobody_knows_whom_is_refused(tmp_path):
    with pytest.raises(PolicyError, match=r"hello\.wav \(voice of speaker\)") as refused:
        Director(scene(), base=tmp_path)
    assert refused.value.exit_code == 7
    assert "\n" not in str(refused.value)


def test_a_portrait_is_refused_though_its_voice_was_consented_to(tmp_path):
    ConsentBook().state(tmp_path / "hello.wav", Consent.now("licensed", "contract 12"))
    Director(scene(), base=tmp_path)
    with pytest.raises(PolicyError, match=r"grace_hopper\.jpg \(portrait of speaker\)") as refused:
        Director(scene(portrait={"image": PORTRAIT}), base=tmp_path)
    assert "hello.wav" not in str(refused.value)


def test_the_consent_of_a_speaker_counts_for_all_that_is_theirs_and_for_nobody_else(tmp_path):
    Director(scene(portrait={"image": PORTRAIT}, consent={"kind": "public-domain"}), base=tmp_path)
    two = {
        "cast": {"ada": {"consent": {"kind": "self"}}, "bert": {}},
        "turns": [{"speaker": "ada", "audio": "hello.wav"}, {"speaker": "bert", "audio": "other.wav"}],
        "outputs": ["voice"],
    }
    hello(tmp_path, 1.0, 2.0).rename(tmp_path / "other.wav")
    hello(tmp_path)
    with pytest.raises(PolicyError, match=r"these are: other\.wav \(voice of bert\): give"):
        Director(Scene.model_validate(two), base=tmp_path)


def test_speech_by_the_computer_needs_no_consent_and_without_the_rule_nothing_does(tmp_path, monkeypatch):
    spoken = {"speech": {"text": "Hello."}, "outputs": ["voice", "head"]}
    Director(Scene.model_validate(spoken), base=tmp_path)
    monkeypatch.setenv("AFFETTO_CONSENT", "asked")
    Director(scene(portrait={"image": PORTRAIT}), base=tmp_path)
    assert not (tmp_path / "home").exists()
