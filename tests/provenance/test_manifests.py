import json
import stat

import numpy as np
import pytest

from affetto.media.audio import save_audio
from affetto.media.video_writer import VideoWriter
from affetto.provenance import certificates
from affetto.provenance.certificates import has_identity, signing_identity
from affetto.provenance.manifests import Origin, can_sign, read_manifest, sign_file
from affetto.provenance.sealing import marked_audio, marked_frame, sealed
from affetto.provenance.settings import marking
from affetto.provenance.verifying import verify_file
from affetto.runtime.errors import MissingResourceError, UsageError

from .conftest import picture, voice

signing = pytest.mark.skipif(not can_sign(), reason="needs the extra 'provenance'")
ORIGIN = Origin(generator="voice", action="edited", recipe={"seed": 3})


@signing
def test_a_signed_recording_tells_what_made_it_and_one_changed_byte_is_noticed(tmp_path, home):
    path = save_audio(tmp_path / "a.wav", voice(1.0))
    assert sign_file(path, ORIGIN) == path
    found = read_manifest(path)
    assert (found.state, found.where, found.generator) == ("trusted", "embedded", "voice")
    assert found.recipe == {"seed": 3}
    assert found.source_type == "compositeWithTrainedAlgorithmicMedia"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert read_manifest(path).state == "invalid"
    assert verify_file(path).tampered
    assert stat.S_IMODE((home / "identity" / "key.pem").stat().st_mode) == 0o600


@signing
def test_formats_that_hold_no_manifest_get_one_beside_them(tmp_path):
    path = tmp_path / "face.csv"
    path.write_text("Timecode,BlendShapeCount\n")
    assert sign_file(path, Origin(generator="face")).name == "face.csv.c2pa"
    assert (read_manifest(path).state, read_manifest(path).where) == ("trusted", "sidecar")
    path.write_text("Timecode,Blendshapecount\n")
    assert read_manifest(path).state == "invalid"


@signing
def test_the_manifest_of_a_source_is_kept_as_an_ingredient(tmp_path):
    source = save_audio(tmp_path / "source.wav", voice(1.0))
    sign_file(source, ORIGIN)
    made = save_audio(tmp_path / "made.wav", voice(1.0, seed=1))
    sign_file(made, Origin(generator="voice", action="edited", ingredients=[source]))
    assert read_manifest(made).ingredients == ("source.wav",)


@signing
def test_sealing_marks_signs_and_shows_the_file_only_then(tmp_path):
    path = tmp_path / "a.flac"
    signing_identity()
    with sealed(path, ORIGIN) as temporary:
        save_audio(temporary, marked_audio(voice()))
        assert not path.exists()
    verdict = verify_file(path)
    assert verdict.made
    assert verdict.sound.marked
    assert verdict.manifest.recipe["marking"] == "watermark on, signing auto"
    assert [each.name for each in tmp_path.iterdir() if each.name != "home"] == ["a.flac"]


def test_a_failure_within_leaves_nothing(tmp_path):
    def fails():
        with sealed(tmp_path / "a.wav", ORIGIN) as temporary:
            save_audio(temporary, voice(1.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not [each for each in tmp_path.iterdir() if each.name != "home"]


def test_unsigned_and_unmarked_is_an_explicit_wish_and_gives_the_same_bytes_each_time(tmp_path):
    for name in ("a.wav", "b.wav"):
        with marking(watermark=False, sign="never"), sealed(tmp_path / name, ORIGIN) as temporary:
            save_audio(temporary, marked_audio(voice(4.0)))
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert not verify_file(tmp_path / "a.wav").made


def test_a_video_is_found_by_its_frames_and_its_sound(tmp_path):
    path = tmp_path / "v.mp4"
    with marking(sign="never"), VideoWriter(path, (256, 256), 4, marked_audio(voice(12.0))) as video:
        for number in range(50):
            video.write(marked_frame(np.roll(picture(), number, axis=1)))
    verdict = verify_file(path)
    assert verdict.picture.marked
    assert verdict.sound.marked
    assert json.dumps(verdict.document(), default=str)


def test_signing_always_without_the_package_fails_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("affetto.provenance.manifests.can_sign", lambda: False)
    with (
        pytest.raises(MissingResourceError, match=r"affetto\[provenance\]"),
        marking(sign="always"),
        sealed(tmp_path / "a.wav", ORIGIN) as temporary,
    ):
        save_audio(temporary, voice(1.0))
    assert not (tmp_path / "a.wav").exists()


@signing
def test_the_first_signature_makes_the_identity_once_and_several_processes_share_it(tmp_path, home):
    assert not has_identity()
    with marking(sign="auto"), sealed(tmp_path / "a.csv", ORIGIN) as temporary:
        temporary.write_text("x\n")
    assert has_identity()
    assert read_manifest(tmp_path / "a.csv").state == "trusted"
    before = signing_identity()
    certificates._make(certificates.config_folder())  # another process, a moment later
    assert signing_identity() == before
    assert [path.name for path in home.iterdir()] == ["identity"]


@signing
def test_where_no_identity_can_be_made_nothing_is_written_and_one_line_says_so(tmp_path, home):
    home.write_text("a file where the folder should be")
    with (
        pytest.raises(UsageError, match="AFFETTO_SIGN=never"),
        marking(sign="auto"),
        sealed(tmp_path / "a.csv", ORIGIN) as temporary,
    ):
        temporary.write_text("x\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
