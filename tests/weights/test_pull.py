"""`affetto weights pull` and `convert`: nothing without consent, nothing that does not fit, nothing that runs."""

import functools
import http.server
import json
import pickle
import threading

import numpy as np
import pytest
import torch

from affetto.apps.cli import main
from affetto.apps.cli.weights import CONVERTERS
from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.weights.pulling import ORIGINS, check_hash, download
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
    assert all(origin.url.startswith("https://") for origin in ORIGINS.values() if origin.url)


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


class _Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": _Evil()}))
    with pytest.raises(InvalidInputError, match="no checkpoint of tensors alone"):
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


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", tmp_path / "served"
        running.shutdown()


def test_downloads_are_whole_and_reported(server, tmp_path):
    address, folder = server
    (folder / "weights.bin").write_bytes(b"x" * 3_000_000)
    seen = []
    path = download(f"{address}/weights.bin", tmp_path / "got", progress=seen.append)
    assert path.stat().st_size == 3_000_000
    assert (seen[-1].done, seen[-1].total) == (3_000_000, 3_000_000)
    assert check_hash(path, sha256_of(folder / "weights.bin").upper())
    with pytest.raises(TryAgainError, match="answers 404"):
        download(f"{address}/absent", tmp_path / "got")
    with pytest.raises(TryAgainError, match="cannot be reached"):
        download("http://127.0.0.1:9/x", tmp_path / "got")
