"""Where weight files lie, whether they are what they claim, and how their arrays are read and written.

Only safetensors are read; nothing here unpickles. Reading as arrays needs no torch; `load_tensors` imports it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.files import atomic_path
from affetto.weights.registry import REGISTRY, WeightFile, get, parse_registry, registry_text, replace_entry

if TYPE_CHECKING:
    from affetto.weights.tensors import load_tensors as load_tensors

_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_verified: set[tuple[str, int, int]] = set()


def __getattr__(name: str) -> Any:
    """`load_tensors` on demand, because it imports torch and the other functions do not need it."""
    if name == "load_tensors":
        from affetto.weights.tensors import load_tensors

        return load_tensors
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_folder() -> Path:
    """Where weights that are not embedded lie: `$AFFETTO_HOME/weights`, else `~/.cache/affetto/weights`."""
    home = os.environ.get("AFFETTO_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "affetto") / "weights"


def expected_path(entry: WeightFile) -> Path:
    """Where the file of `entry` lies or would lie."""
    if entry.embedded:
        return Path(str(resources.files("affetto.weights") / "embedded" / entry.file))
    return cache_folder() / entry.file


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def receipt_path(entry: WeightFile) -> Path:
    """Where it is written down what was pulled for `entry`."""
    return cache_folder() / f"{Path(entry.file).stem}.receipt.json"


def pinned(entry: WeightFile) -> tuple[str, int]:
    """The SHA-256 and the size that a file must have: the registry's, else those of its pull; "" and 0 when unknown."""
    if entry.sha256 or entry.embedded:
        return entry.sha256, entry.size
    try:
        held = json.loads(receipt_path(entry).read_text(encoding="utf-8"))
        return str(held["sha256"]), int(held["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0


def file_state(entry: WeightFile, *, thorough: bool = True) -> str:
    """What became of a weight file: `ok`, `missing`, `damaged`, or `unpinned` (there, but its hash is not known).

    Not `thorough`, only the size of files that were pulled is compared, because hashing gigabytes takes a while.
    """
    path = expected_path(entry)
    if not path.is_file():
        return "missing"
    sha256, size = pinned(entry)
    if not sha256:
        return "unpinned"
    if path.stat().st_size != size:
        return "damaged"
    return "ok" if (not thorough and not entry.sha256) or sha256_of(path) == sha256 else "damaged"


def weight_path(weight_id: str) -> Path:
    """The path of a weight file, its hash checked once in each process.

    Raises `UsageError` for an unknown id and `MissingResourceError` when the file is missing or damaged.
    """
    entry = get(weight_id)
    path = expected_path(entry)
    mend = (
        "reinstall affetto"
        if entry.embedded
        else (f"run affetto weights pull {weight_id}, or get the file from {entry.source} and put it there")
    )
    if not path.is_file():
        raise MissingResourceError(f"weights {weight_id!r} are not at {path}: {mend}")
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _verified:
        if file_state(entry, thorough=False) == "damaged":
            raise MissingResourceError(
                f"weights {weight_id!r} at {path} differ from their registered hash: {mend}"
            )
        _verified.add(key)
    return path


def check_safetensors(path: Path) -> None:
    """Raise `InvalidInputError` with a plain reason unless `path` begins like a safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if size >= 10 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return
    refuse_impostors(path, head)
    mend = "delete it and download it again"
    if head[:2] == b"PK" or head[:1] == b"\x80":
        raise InvalidInputError(f"{path}: is a pickled checkpoint: only safetensors are read")
    raise InvalidInputError(f"{path}: is not a complete safetensors file: {mend}")


def refuse_impostors(path: Path, head: bytes) -> None:
    """Raise `InvalidInputError` when a file beginning with `head` is what comes in place of weights when a download fails."""
    mend = "delete it and download it again"
    if not head:
        raise InvalidInputError(f"{path}: is empty: {mend}")
    if head.startswith(b"version https://git-lfs"):
        raise InvalidInputError(f"{path}: is a git-lfs pointer, not the weights: {mend} (with git lfs pull)")
    if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<":
        raise InvalidInputError(f"{path}: is a web page, not weights: {mend}")
    if head.lstrip()[:1] == b"{" and head.lstrip()[1:2] in (b'"', b"\n", b" "):
        raise InvalidInputError(f"{path}: is a text (JSON), perhaps a server's error, not weights: {mend}")


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file at `path`."""
    path = Path(path)
    check_safetensors(path)
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise InvalidInputError(f"{path}: is damaged ({error}): delete it and download it again") from error


def read_header(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes in a safetensors file, without reading its numbers."""
    path = Path(path)
    check_safetensors(path)
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InvalidInputError(f"{path}: is damaged ({error}): delete it and download it again") from error


def load_arrays(weight_id: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a registered weight file, without torch; raises like `weight_path`."""
    return read_arrays(weight_path(weight_id))


def _as_array(name: str, values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a torch tensor; torch itself is not needed to tell
        if "bfloat16" in str(values.dtype):
            raise UsageError(f"tensor {name!r} is bf16: save it as float16 or float32")
        values = values.detach().cpu().numpy()
    array = np.asarray(values, order="C")  # ascontiguousarray would give a scalar an axis
    if array.dtype.name not in _DTYPES:
        raise UsageError(f"tensor {name!r} is {array.dtype}: save one of {', '.join(_DTYPES)}")
    return array


def save_tensors(path: str | Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Path:
    """Write numpy arrays or torch tensors as safetensors; the same content always gives the same bytes.

    The safetensors library writes metadata in random order, so the header is built here: keys sorted, data aligned to
    eight bytes.
    """
    arrays = {name: _as_array(name, tensors[name]) for name in sorted(tensors)}
    ordered = sorted(
        arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)
    )  # keeps every offset aligned
    header: dict[str, Any] = {"__metadata__": {key: str(metadata[key]) for key in sorted(metadata)}}
    offset = 0
    for name in ordered:
        array = arrays[name]
        span = [offset, offset + array.nbytes]
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": span}
        offset += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            array = arrays[name]
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return Path(path)


def register(
    weight_id: str, path: str | Path, *, source: str, licence: str, consumer: str, commercial: bool = True
) -> WeightFile:
    """Embed a finished weight file: copy it to the package's folder and write size and hash to registry.json.

    For training recipes, run from a checkout. Raises `UsageError` when the file is too large or its licence forbids it.
    """
    path = Path(path)
    check_safetensors(path)
    entry = WeightFile(
        id=weight_id, file=f"{weight_id}.safetensors", source=source, licence=licence, commercial=commercial,
        sha256=sha256_of(path), consumer=consumer, embedded=True, size=path.stat().st_size,
    )  # fmt: skip
    target = expected_path(entry)
    if path.resolve() != target.resolve():
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
    replace_entry(entry)
    listing = Path(str(resources.files("affetto.weights") / "registry.json"))
    # Others may have added entries while this process was training: keep theirs.
    listed = parse_registry(listing.read_text(encoding="utf-8")) if listing.exists() else REGISTRY
    with atomic_path(listing) as temporary:
        temporary.write_text(registry_text({**listed, weight_id: entry}), encoding="utf-8")
    return entry
