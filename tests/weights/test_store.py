"""The registry, the store and the safetensors files."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights import registry, store
from affetto.weights.registry import REGISTRY, WeightFile, get, parse_registry, registry_text
from affetto.weights.store import check_safetensors, read_arrays, save_tensors, sha256_of, weight_path
from affetto.weights.tensors import load_tensors

ENTRY = WeightFile(
    id="test-net",
    file="test-net.safetensors",
    source="https://example.org",
    licence="MIT",
    commercial=True,
    sha256="",
    consumer="Test",
    embedded=False,
    size=0,
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty user cache."""
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture
def known(home, monkeypatch):
    """Puts entries into the registry for one test."""
    entries = dict(REGISTRY)
    monkeypatch.setattr(registry, "_entries", entries)
    for module in (registry, store):
        monkeypatch.setattr(module, "REGISTRY", entries)

    def add(**changes) -> WeightFile:
        entry = dataclasses.replace(ENTRY, **changes)
        entries[entry.id] = entry
        return entry

    return add


ARRAYS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
)


@given(
    st.dictionaries(st.text("abc.é", min_size=1), ARRAYS, max_size=3),
    st.dictionaries(st.text(max_size=4), st.text(max_size=9)),
)
@settings(max_examples=20, deadline=None)
def test_arrays_and_metadata_come_back(tmp_path_factory, arrays, metadata):
    path = save_tensors(tmp_path_factory.getbasetemp() / "a.safetensors", arrays, metadata)
    back, notes = read_arrays(path)
    assert notes == metadata
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x3C])
def test_a_header_length_that_looks_like_another_format_is_no_obstacle(tmp_path, length):
    path = tmp_path / "a.safetensors"
    text = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"0000")
    assert set(read_arrays(path)[0]) == {"w"}


def test_the_same_content_gives_the_same_bytes_in_another_process(tmp_path):
    code = (
        "import sys, numpy as np; from affetto.weights.store import save_tensors;"
        "save_tensors(sys.argv[1], {'b': np.ones(3, np.float16), 'a': np.zeros((2, 2), np.float32)},"
        " {name: name for name in 'qwertzuiop'}); assert 'torch' not in sys.modules"
    )
    for number in range(2):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / f"{number}.safetensors")], check=True)
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()
    assert set(load_file(tmp_path / "0.safetensors")) == {"a", "b"}


def test_torch_tensors_are_saved_as_they_are(tmp_path, known, home):
    weights = {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3)}
    path = save_tensors(home / "test-net.safetensors", weights, {"config": "{}"})
    known(sha256=sha256_of(path), size=path.stat().st_size)
    tensors, metadata = load_tensors("test-net")
    assert metadata == {"config": "{}"}
    assert torch.equal(tensors["w"], weights["w"])
    assert tensors["n"].item() == 3
    arrays, _ = store.load_arrays("test-net")
    np.testing.assert_array_equal(arrays["w"], weights["w"].numpy())


def test_bf16_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="float16 or float32"):
        save_tensors(tmp_path / "a.safetensors", {"w": torch.zeros(2, dtype=torch.bfloat16)}, {})


def test_a_missing_file_says_how_to_get_it(known):
    known()
    with pytest.raises(MissingResourceError, match=r"get the file from .* and put it there"):
        weight_path("test-net")


def test_a_swapped_file_is_refused(known, home):
    path = save_tensors(home / "test-net.safetensors", {"w": np.zeros(3, np.float32)}, {})
    known(sha256=sha256_of(path), size=path.stat().st_size)
    assert weight_path("test-net") == path
    save_tensors(path, {"w": np.ones(3, np.float32)}, {})
    with pytest.raises(MissingResourceError, match="differ from their registered hash"):
        weight_path("test-net")
    assert store.file_state(get("test-net")) == "damaged"


def test_an_unknown_id_suggests_near_ones():
    with pytest.raises(UsageError, match="did you mean dice-talk"):
        get("dicetalk")


BAD_FILES = {
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "a zipped checkpoint": (b"PK\x03\x04" + b"0" * 50, "pickled"),
    "a pickle": (b"\x80\x04" + b"0" * 50, "pickled"),
    "too short": (b"\x08", "not a complete"),
    "a header beyond the end": ((2**40).to_bytes(8, "little") + b"{}      ", "not a complete"),
    "overlapping data": (
        (112).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(
            112
        )
        + b"0000",
        "damaged",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_safetensors_file_is_refused_in_one_line(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


def test_the_shipped_registry_keeps_its_rules():
    assert parse_registry(registry_text(REGISTRY)) == dict(REGISTRY)
    assert all(entry.licence and entry.source and entry.consumer for entry in REGISTRY.values())
    assert {"dice-talk", "emote", "flame2023-open"} <= set(REGISTRY)
    assert not REGISTRY["dice-talk"].commercial


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../x.safetensors"}, "plain"),
        ({"file": "x.pt"}, "safetensors"),
        ({"embedded": True}, "sha256"),
        ({"embedded": True, "sha256": "0" * 64, "size": 2**25}, "bytes"),
        ({"embedded": True, "sha256": "0" * 64, "size": 9, "commercial": False}, "commercial"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(ENTRY, **changes)


def test_a_duplicate_id_is_refused():
    entry = dataclasses.asdict(ENTRY)
    with pytest.raises(UsageError, match="twice"):
        parse_registry(json.dumps([entry, entry]))


def test_registering_copies_the_file_and_pins_its_hash(tmp_path, known, monkeypatch):
    package = tmp_path / "package"
    (package / "embedded").mkdir(parents=True)
    monkeypatch.setattr(store.resources, "files", lambda _: package)
    made = save_tensors(tmp_path / "made.safetensors", {"w": np.ones(4, np.float32)}, {"note": "x"})
    entry = store.register("test-net", made, source="own", licence="Apache-2.0", consumer="Test")
    assert (package / "embedded" / "test-net.safetensors").read_bytes() == made.read_bytes()
    written = parse_registry((package / "registry.json").read_text())
    assert written["test-net"] == entry == get("test-net")
    assert store.file_state(entry) == "ok"
    check_safetensors(store.weight_path("test-net"))
