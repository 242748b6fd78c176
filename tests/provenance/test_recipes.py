import json

import pytest

from affetto.media.audio import save_audio
from affetto.provenance.manifests import Origin, can_sign
from affetto.provenance.recipes import embedded_recipe, recorded, without_places
from affetto.provenance.sealing import sealed
from affetto.provenance.settings import marking
from affetto.provenance.verifying import verify_file

from .conftest import voice

ORIGIN = Origin(generator="voice", action="edited", recipe={"strength": 1.0})


def save(path, **settings):
    with marking(**settings), sealed(path, ORIGIN) as temporary:
        save_audio(temporary, voice(1.0))


def test_a_file_that_lost_what_lay_beside_it_still_tells_its_recipe(tmp_path):
    with recorded(
        {"job": {"emotion": "happy", "audio": tmp_path / "me.wav", "bank": "/home/x/bank.safetensors"}}
    ):
        save(tmp_path / "a.wav", sign="never")
    recipe = verify_file(tmp_path / "a.wav").recipe
    assert recipe["generator"] == "voice"
    assert recipe["strength"] == 1.0
    assert recipe["job"] == {"emotion": "happy", "audio": "me.wav", "bank": "bank.safetensors"}
    assert str(tmp_path) not in json.dumps(recipe)


@pytest.mark.skipif(not can_sign(), reason="needs the extra 'provenance'")
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_signature_covers_the_recipe(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save(path, sign="always")
    assert verify_file(path).manifest.state == "trusted"
    assert embedded_recipe(path)["generator"] == "voice"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"strength":1.0', b'"strength":2.0'))
    assert verify_file(path).tampered


def test_no_recipe_is_an_explicit_wish(tmp_path, monkeypatch):
    save(tmp_path / "a.wav", sign="never", recipe=False)
    assert embedded_recipe(tmp_path / "a.wav") is None
    monkeypatch.setenv("AFFETTO_RECIPE", "off")
    save(tmp_path / "b.wav", sign="never")
    assert embedded_recipe(tmp_path / "b.wav") is None


def test_paths_become_names_and_words_stay():
    given = {
        "a": ["/home/me/x.wav", "../../y.png", "C:\\z\\w.wav", "~/v.wav"],
        "b": "0:happy; 1:sad/angry",
        "c": 3,
    }
    assert without_places(given) == {
        "a": ["x.wav", "y.png", "w.wav", "v.wav"],
        "b": "0:happy; 1:sad/angry",
        "c": 3,
    }
