"""`affetto weights pull` and `convert`: nothing without consent, nothing that does not fit, nothing that runs."""

import argparse
import dataclasses
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.apps.cli import main
from affetto.apps.cli.weights import CONVERTERS, READERS
from affetto.runtime.errors import InvalidInputError
from affetto.weights.origins import ORIGINS
from affetto.weights.registry import REGISTRY
from affetto.weights.store import read_arrays, save_tensors, sha256_of
from affetto.weights.tensors import read_checkpoint


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def _said(capsys):
    return capsys.readouterr().err.strip().splitlines()


def test_every_origin_and_converter_belongs_to_a_registered_file():
    assert set(ORIGINS) <= set(REGISTRY)
    assert set(CONVERTERS) <= set(REGISTRY)
    assert all(not REGISTRY[name].embedded for name in ORIGINS)
    parts = [part for origin in ORIGINS.values() for part in origin.parts]
    assert all(part.url.startswith("https://") for part in parts if part.url)
    assert all(origin.page.startswith("https://") and origin.parts for origin in ORIGINS.values())
    assert set(READERS) | set(CONVERTERS) >= {name for name, each in ORIGINS.items() if not each.downloadable}
    assert {"dice-talk", "svd-xt", "whisper-tiny", "emote", "wav2vec2-base-960h", "flame2023-open"} <= set(
        ORIGINS
    )


def test_the_licence_is_shown_and_nothing_is_fetched_without_consent(capsys, home):
    assert main(["weights", "pull", "vocos-mel-24khz"]) == 2
    shown, refused = _said(capsys)
    assert "licence MIT (commercial use allowed)" in shown
    assert "repeat with --accept-licence" in refused
    assert not (home / "vocos-mel-24khz.safetensors").exists()


def test_a_file_on_a_shared_drive_is_named_with_its_page(capsys, home):
    assert main(["weights", "pull", "diffvc-libritts", "-q"]) == 4
    assert "save vc_libritts_wodyn.pt from there, then run affetto weights pull diffvc-libritts --from FILE" in _said(capsys)[0]  # fmt: skip


def test_weights_that_only_the_user_can_make_come_in_with_from(capsys, home, tmp_path):
    assert main(["weights", "pull", "emoreg", "-q"]) == 4
    assert "affetto train voice-emoreg" in _said(capsys)[0]
    own = save_tensors(tmp_path / "own.safetensors", {"w": np.ones(3, np.float32)}, {"format": "emoreg-1"})
    assert main(["weights", "pull", "emoreg", "--from", str(own), "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["published_sha256"] == sha256_of(own)
    assert (home / "emoreg.safetensors").read_bytes() == own.read_bytes()
    assert main(["weights", "pull", "emoreg", "--from", str(own), "-q"]) == 2
    assert "already exists" in _said(capsys)[0]


def test_a_file_of_another_model_or_another_hash_leaves_nothing_behind(capsys, home, tmp_path):
    other = tmp_path / "g_02500000"
    torch.save({"generator": {"conv_pre.bias": torch.zeros(3)}}, other)
    assert main(["weights", "pull", "hifigan-universal", "--from", str(other), "-q"]) == 3
    assert "not the weights of HiFi-GAN V1" in _said(capsys)[0]
    assert (
        main(["weights", "pull", "hifigan-universal", "--from", str(other), "--sha256", "0" * 64, "-q"]) == 3
    )
    assert "this is another file" in _said(capsys)[0]
    assert not (home / "hifigan-universal.safetensors").exists()


def test_the_published_vocos_layout_converts(capsys, tmp_path):
    from affetto.generators.voice.full.vocos import Vocos

    with torch.device("meta"):
        layout = {key: tuple(value.shape) for key, value in Vocos().state_dict().items()}
    published = {key: torch.zeros(1).expand(shape) for key, shape in layout.items()}
    published["head.istft.window"] = torch.ones(1024)
    torch.save(
        {key: value.clone().half() for key, value in published.items()}, tmp_path / "pytorch_model.bin"
    )
    made = tmp_path / "vocos.safetensors"
    assert (
        main(["weights", "convert", "vocos-mel-24khz", str(tmp_path / "pytorch_model.bin"), "-o", str(made)])
        == 0
    )
    arrays, metadata = read_arrays(made)
    assert {key: array.shape for key, array in arrays.items()} == layout
    assert metadata["format"] == "vocos-1"


def test_shipped_weights_are_neither_pulled_nor_converted(capsys, home):
    assert main(["weights", "pull", "head", "-q"]) == 2
    assert main(["weights", "convert", "head", "x.pt"]) == 2
    assert all("is shipped with affetto" in line for line in _said(capsys))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        (b'{"error": "gated"}', "perhaps a server's error"),
        (b"", "is empty"),
        (b"abcdefghijklmnop", "neither a checkpoint nor a pickle"),
    ],
)
def test_what_comes_in_place_of_weights_is_named(tmp_path, content, said):
    path = tmp_path / "unet.pth"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        read_checkpoint(path)


def test_checkpoints_of_every_layout_give_their_numbers(tmp_path):
    held = {
        "a": torch.randn(3, 4), "turned": torch.randn(4, 5).t(), "n": torch.arange(3), "h": torch.randn(2).half(),
        "b": torch.randn(2, 2).bfloat16(), "scalar": torch.tensor(3.0), "p": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3), "part": torch.arange(10.0)[2:5], "yes": torch.tensor([True, False]),
    }  # fmt: skip
    held["same"] = held["a"]
    for new_layout in (True, False):
        for content in (held, {"state_dict": held, "epoch": 3, "settings": {"x": [1, 2.0, None]}}):
            torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new_layout)
            found = read_checkpoint(tmp_path / "a.pt")
            assert set(found) == set(held)
            for name, value in held.items():
                assert found[name].dtype == value.dtype
                assert torch.equal(found[name], value.data)


def test_pickled_dictionaries_of_arrays_are_read(tmp_path):
    np.save(tmp_path / "happy.npy", {"mu": np.ones((1, 256), np.float32)}, allow_pickle=True)
    assert read_checkpoint(tmp_path / "happy.npy")["mu"].shape == (1, 256)
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": turned}))
    assert torch.equal(read_checkpoint(tmp_path / "a.pkl")["w"], torch.from_numpy(turned.copy()))


def test_settings_beside_the_tensors_become_empty_shells(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"w": torch.ones(2)}, "hyper": argparse.Namespace(a=1), "at": Path("/x")}, path)
    assert set(read_checkpoint(path)) == {"w"}


def _rezipped(path, compression, extra=b""):
    with zipfile.ZipFile(path) as old:
        entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in entries:
            new.writestr(name, content + (extra if "/data/" in name else b""))


def test_a_compressed_archive_is_refused_before_it_can_swell(tmp_path):
    path = tmp_path / "bomb.pt"
    torch.save({"w": torch.zeros(50_000)}, path)
    _rezipped(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 5_000
    with pytest.raises(InvalidInputError, match="compressed archive, which no torch checkpoint is"):
        read_checkpoint(path)


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(tmp_path):
    path = tmp_path / "short.pt"
    torch.save({"w": torch.zeros(100)}, path)
    with zipfile.ZipFile(path) as old:
        entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries:
            new.writestr(name, content[:40] if "/data/" in name else content)
    with pytest.raises(InvalidInputError, match="reaches beyond its numbers"):
        read_checkpoint(path)
    torch.save({"w": torch.zeros(1).expand(10_000_000)}, path)
    with pytest.raises(InvalidInputError, match="claims more numbers"):
        read_checkpoint(path)


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.97])
@pytest.mark.parametrize("new_layout", [True, False])
def test_a_cut_off_checkpoint_is_refused_in_one_line(tmp_path, keep, new_layout):
    path = tmp_path / "cut.pt"
    torch.save({"w": torch.zeros(500), "v": torch.ones(30)}, path, _use_new_zipfile_serialization=new_layout)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InvalidInputError, match="download it again") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_asks_for_a_terabyte_is_ended(tmp_path):
    path = tmp_path / "greedy.pkl"
    path.write_bytes(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x")  # one string of 2^40 bytes
    with pytest.raises(InvalidInputError, match=r"damaged or no checkpoint|more memory"):
        read_checkpoint(path)


def test_the_licence_is_accepted_once_and_remembered(capsys, home, monkeypatch):
    from affetto.apps.cli import weights
    from affetto.weights.registry import get

    entry = get("mimi")
    with pytest.raises(weights.UsageError, match="repeat with --accept-licence"):
        weights._agreed(entry, "https://example.org", 0, accept=False)
    weights._agreed(entry, "https://example.org", 0, accept=True)
    weights._agreed(entry, "https://example.org", 0, accept=False)  # remembered
    assert json.loads((home / "licences.json").read_text()) == {"mimi": entry.licence}
    changed = dataclasses.replace(entry, licence="another")
    with pytest.raises(weights.UsageError, match="read the licence"):
        weights._agreed(changed, "https://example.org", 0, accept=False)


def test_what_may_not_be_sold_is_flagged(capsys, home):
    assert main(["weights", "pull", "dice-talk"]) == 2
    assert "(NO COMMERCIAL USE)" in _said(capsys)[0]


def test_a_folder_gives_its_files_by_their_published_names(capsys, home, tmp_path):
    from tests.head.flame_like import flame_like

    folder = tmp_path / "FLAME2023Open"
    folder.mkdir()
    arrays = {
        field.name: getattr(flame_like()[0], field.name) for field in dataclasses.fields(flame_like()[0])
    }
    (folder / "flame2023_Open.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    assert main(["weights", "pull", "flame2023-open", "--from", str(folder), "-q", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said["published"]) == ["flame2023_Open.pkl"]
    assert main(["weights", "verify", "flame2023-open"]) == 0
    assert capsys.readouterr().out.startswith("ok")
    made = home / "flame2023-open.safetensors"
    whole = bytearray(made.read_bytes())
    whole[-5] ^= 1
    made.write_bytes(bytes(whole))
    assert main(["weights", "verify", "flame2023-open"]) == 4
    assert "run affetto weights pull flame2023-open --overwrite" in _said(capsys)[0]


def test_a_folder_that_lacks_files_names_them(capsys, home, tmp_path):
    (tmp_path / "DICE-Talk").mkdir()
    (tmp_path / "DICE-Talk" / "unet.pth").write_bytes(b"x")
    assert main(["weights", "pull", "dice-talk", "--from", str(tmp_path), "-q"]) == 3
    assert "lacks DICE-Talk/audio_linear.pth, DICE-Talk/emo_model.pth" in _said(capsys)[0]
    assert main(["weights", "pull", "dice-talk", "--from", str(tmp_path / "nowhere"), "-q"]) == 3
    assert "no such file or folder" in _said(capsys)[0]


def test_a_file_of_another_network_is_called_by_its_name(capsys, home, tmp_path):
    other = tmp_path / "model.safetensors"
    save_tensors(other, {"vision_model.a": np.zeros(1), "visual_projection.weight": np.zeros(1)}, {})
    assert main(["weights", "pull", "whisper-tiny", "--from", str(other), "-q"]) == 3
    assert "holds a CLIP vision model, not the weights 'whisper-tiny' (Whisper)" in _said(capsys)[0]
    torch.save(
        {"encoder.conv1.weight": torch.zeros(1), "encoder.embed_positions.weight": torch.zeros(1)},
        tmp_path / "a.pt",
    )
    assert main(["weights", "pull", "vocos-mel-24khz", "--from", str(tmp_path / "a.pt"), "-q"]) == 3
    assert "these are not the weights of vocos-mel-24khz (they look like Whisper)" in _said(capsys)[0]
    assert not list(home.glob("*.safetensors"))


class _Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": _Evil()}))
    with pytest.raises(InvalidInputError, match=r"wants to load builtins\.print, which no weights need"):
        read_checkpoint(path)
    torch.save({"w": torch.ones(2), "model": _Evil()}, path)
    with pytest.raises(InvalidInputError, match=r"builtins\.print"):
        read_checkpoint(path)
    assert "run" not in capsys.readouterr().out.split()


def test_tensors_are_found_inside_one_enclosing_entry(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"generator": {"w": torch.ones(2)}, "steps": 3}, path)
    assert set(read_checkpoint(path)) == {"w"}
    torch.save({"steps": 3}, path)
    with pytest.raises(InvalidInputError, match="holds no named tensors"):
        read_checkpoint(path)
    with pytest.raises(InvalidInputError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pt")
