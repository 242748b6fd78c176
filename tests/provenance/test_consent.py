import pytest

from affetto.media.audio import save_audio
from affetto.provenance.consent import Consent, ConsentBook, settle_consent
from affetto.runtime.errors import InvalidInputError, PolicyError, UsageError

from .conftest import voice


@pytest.fixture
def recording(tmp_path):
    return save_audio(tmp_path / "me.wav", voice(0.5))


def test_consent_is_stated_once_and_remembered_by_content(recording, tmp_path):
    assert settle_consent(recording, None, what="voice") is None
    stated = settle_consent(recording, "licensed: contract 12", what="voice")
    assert (stated.ground, stated.note) == ("licensed", "contract 12")
    renamed = recording.rename(tmp_path / "other.wav")
    assert settle_consent(renamed, None, what="voice") == stated


def test_where_consent_is_required_there_is_no_way_around_it(recording, monkeypatch):
    monkeypatch.setenv("AFFETTO_CONSENT", "required")
    with pytest.raises(PolicyError, match=r"me\.wav: nobody has stated whose voice") as refused:
        settle_consent(recording, None, what="voice")
    assert refused.value.exit_code == 7
    assert settle_consent(recording, "self", what="voice").ground == "self"


def test_unknown_grounds_and_a_damaged_book_are_named(recording, home):
    with pytest.raises(UsageError, match="consent 'maybe'"):
        Consent(ground="maybe")
    book = ConsentBook(home / "consents.json")
    home.mkdir()
    book.path.write_text("[1,")
    with pytest.raises(InvalidInputError, match=r"consents\.json"):
        book.of(recording)
