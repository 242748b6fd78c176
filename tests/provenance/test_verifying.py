"""Every kind of file is known again: by signature, by mark, by recipe; and a changed byte is noticed."""

import json

import numpy as np
import pytest

from affetto.apps.batch.engines import Workshop, recipe_path
from affetto.apps.batch.plan import plan_job
from affetto.apps.batch.specs import JOB
from affetto.generators.face.pipeline import FaceAnimation
from affetto.generators.portrait.saving import origin_of, save_pictures
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import save_audio
from affetto.media.image import png_bytes
from affetto.provenance.certificates import signing_identity
from affetto.provenance.manifests import Origin, can_sign, read_manifest, sidecar_path
from affetto.provenance.sealing import seal, sealed
from affetto.provenance.settings import marking
from affetto.provenance.verifying import verify_file
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import CancelToken

from .conftest import picture, voice

signing = pytest.mark.skipif(not can_sign(), reason="needs the extra 'provenance'")
SCENE = Origin(generator="scene", action="edited")


def make_some(folder):
    """A file of each cheap kind, as the generators, scenes and batches save them."""
    animation = FaceAnimation(curves=FaceCurves.neutral(3, 25.0), audio=None)
    written = [animation.save(folder / f"face{suffix}") for suffix in (".csv", ".json", ".npz", ".glb")]
    save_pictures(folder / "frame_%02d.png", [picture(192)] * 2, origin_of(None), overwrite=False)
    written += [folder / "frame_00.png", folder / "frame_01.png"]
    texts = {
        "subtitles.srt": "1\n", "subtitles.vtt": "WEBVTT\n\n", "timeline.otio": "{}\n", "timeline.edl": "TITLE: a\n",
        "emotion.usda": "#usda 1.0\n", "recipe.json": '{"affetto": "0.1.0"}\n',
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
        written.append(seal(folder / name, SCENE))
    planned = plan_job(
        JOB.validate_python({"generator": "music", "emotion": "calm", "seconds": 2.0, "output": "a.mid"})
    )
    Workshop(device="cpu").make(planned, folder / "a.mid", progress=lambda _event: None, cancel=CancelToken())
    return [*written, folder / "a.mid", recipe_path(folder / "a.mid")]


@signing
def test_each_kind_of_file_verifies_and_a_changed_byte_is_noticed(tmp_path):
    signing_identity()
    (out := tmp_path / "out").mkdir()
    for path in make_some(out):
        verdict = verify_file(path)
        assert verdict.signed, path.name
        assert verdict.manifest.state == "trusted"
        assert verdict.recipe is not None, path.name
        assert not verdict.tampered
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert verify_file(path).tampered, path.name
        assert not verify_file(path).signed, path.name


def test_with_signing_off_files_say_what_made_them_and_no_manifest_lies_beside(tmp_path):
    (out := tmp_path / "out").mkdir()
    with marking(sign="never"):
        written = make_some(out)
    assert not list(out.glob("*.c2pa"))
    verdicts = {path.name: verify_file(path) for path in written}
    assert {name for name, verdict in verdicts.items() if verdict.made} == {"frame_00.png", "frame_01.png"}
    said = {
        "a.mid",
        "a.mid.recipe.json",
        "face.glb",
        "face.npz",
        "recipe.json",
        "emotion.usda",
        "subtitles.vtt",
    }
    assert said <= {name for name, verdict in verdicts.items() if verdict.says_so}
    assert not verdicts["face.csv"].says_so


@signing
def test_a_manifest_that_lies_beside_goes_when_its_file_is_written_anew_without_one(tmp_path):
    path = tmp_path / "a.csv"
    for sign, there in (("always", True), ("never", False)):
        with marking(sign=sign), sealed(path, SCENE) as temporary:
            temporary.write_text(f"a,b\n{sign}\n")
        assert sidecar_path(path).is_file() is there
    assert not verify_file(path).tampered


def test_a_file_that_a_recipe_lists_is_known_by_its_content(tmp_path):
    path = tmp_path / "subtitles.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    assert not verify_file(path).says_so
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of "hello"
    listed = {"affetto": "0.1.0", "outputs": {path.name: digest, "gone.wav": digest, "../up.wav": digest}}
    (tmp_path / "recipe.json").write_text(json.dumps(listed))
    assert verify_file(path).listing.same is False
    assert verify_file(path).tampered
    path.write_text("hello")
    assert verify_file(path).listing.same
    assert not verify_file(path).tampered
    stock = verify_file(tmp_path / "recipe.json").inventory
    assert (stock.same, stock.changed, stock.gone) == (1, (), ("gone.wav",))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"affetto": 1, "outputs": [1], "file": {"name": 3}}', "\xff", "[]"]
)
def test_damaged_recipes_list_nothing(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text("a\n")
    (tmp_path / "recipe.json").write_text(text, encoding="latin-1")
    assert verify_file(path).listing is None


@signing
def test_a_signed_picture_that_cannot_be_decoded_any_more_is_said_to_be_changed(tmp_path):
    path = tmp_path / "a.png"
    with marking(sign="always"), sealed(path, SCENE) as temporary:
        temporary.write_bytes(png_bytes(picture(64)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 300])
    verdict = verify_file(path)
    assert verdict.tampered
    assert verdict.unreadable
    (tmp_path / "b.png").write_bytes(b"no picture, and nobody's")
    with pytest.raises(InvalidInputError):
        verify_file(tmp_path / "b.png")


@signing
def test_sources_are_named_whatever_they_are_and_those_that_are_gone_are_not(tmp_path):
    sound, notes, wrong = tmp_path / "a.wav", tmp_path / "b.csv", tmp_path / "c.jpg"
    save_audio(sound, voice(0.5))
    notes.write_text("a\n")
    wrong.write_bytes(png_bytes(np.zeros((8, 8, 3), np.uint8)))  # a PNG under another name
    origin = Origin(generator="scene", ingredients=[sound, notes, wrong, tmp_path / "gone.wav"])
    path = tmp_path / "out.csv"
    with marking(sign="always"), sealed(path, origin) as temporary:
        temporary.write_text("x\n")
    assert sorted(read_manifest(path).ingredients) == ["a.wav", "b.csv", "c.jpg"]


@signing
def test_any_changed_byte_of_a_manifest_is_noticed_or_leaves_it_as_it_was(tmp_path):
    path = tmp_path / "a.csv"
    with marking(sign="always"), sealed(path, SCENE) as temporary:
        temporary.write_text("x\n")
    beside = sidecar_path(path)
    whole, chance = beside.read_bytes(), np.random.default_rng(0)
    states = []
    for at in chance.integers(0, len(whole), 120):
        broken = bytearray(whole)
        broken[at] ^= 1 << int(chance.integers(0, 8))
        beside.write_bytes(broken)
        states.append(read_manifest(path).state)
    assert set(states) <= {"invalid", "none", "trusted", "valid"}
    assert states.count("invalid") > 70  # the rest is empty room that signatures leave
