"""Tensors out of a pickled checkpoint without running anything that is in it; the standard library is all it needs.

Run as a program by `affetto.weights.tensors` in a process of its own, through `affetto.runtime.limits` which bounds it:
`python -I -S limits.py ... unpickle.py INPUT OUTPUT` writes the tensors of INPUT as safetensors. It reads torch's zip layout (stored
entries only), the layout before torch 1.6, and plain pickles and .npy files of numpy arrays. Numbers are copied block by
block and never interpreted. What a pickle may name is listed in `ALLOWED` and `INERT`; anything else ends the work.
"""

import ast
import io
import json
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
NUMPY = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u1": "U8",
         "b1": "BOOL"}  # fmt: skip
NESTED = ("generator", "state_dict", "model", "best_state")
"""Entries of a checkpoint inside which the tensors may lie."""
INERT = ("omegaconf", "munch", "pytorch_lightning", "lightning", "lightning_fabric", "argparse", "pathlib", "typing",
         "torch.optim", "torch.device", "torch.Size", "yacs", "easydict", "enum", "collections.defaultdict",
         "collections.Counter", "builtins.set", "builtins.frozenset", "builtins.slice", "builtins.complex",
         "_codecs.encode", "copyreg._reconstructor", "builtins.object", "builtins.dict", "builtins.list", "builtins.tuple",
         "builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.bytes", "builtins.getattr")  # fmt: skip
"""Names that checkpoints carry beside their tensors (settings, optimisers): an empty shell stands in for each."""
MAX_PICKLE = 1 << 28
DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError,
          MemoryError, OverflowError, struct.error, zipfile.BadZipFile, ImportError, NotImplementedError, OSError)  # fmt: skip
"""What reading a damaged file raises."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_BLOCK = 1 << 22


class RefusedError(Exception):
    """The file is not what it should be, or wants something it may not have; the message is for the user."""


class Storage(NamedTuple):
    """Numbers somewhere: `key` names them, `kind` is their safetensors type, `numbers` how many there are."""

    key: str
    kind: str
    numbers: int


class Strided(NamedTuple):
    """A tensor as a pickle describes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Shell:
    """Stands for an object of a class we do not load; it takes whatever it is given and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Shell":
        """An empty shell, whatever the arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __call__(self, *_: Any, **__: Any) -> "Shell":
        """Another empty shell."""
        return Shell()

    def __setstate__(self, state: Any) -> None:
        """Keep the state: tensors may lie in it."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...
    def append(self, value: Any) -> None:
        """Nothing."""

    def extend(self, values: Any) -> None:
        """Nothing."""

    def add(self, value: Any) -> None:
        """Nothing."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class StorageType(NamedTuple):
    """What `torch.FloatStorage` and its like become."""

    kind: str


class ArrayType:
    """A pickled numpy dtype: its code, and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = str(code).lstrip("<>|=")
        self.order = "<"

    def __setstate__(self, state: tuple) -> None:
        """The byte order is the second entry."""
        self.order = state[1] if len(state) > 1 else "<"


class Array:
    """A pickled numpy array: its state is version, shape, type, Fortran order, bytes."""

    state: tuple | None = None

    def __init__(self, *_: Any) -> None: ...
    def __setstate__(self, state: tuple) -> None:
        """Keep it."""
        self.state = state


def _tensor(storage: Storage, offset: int, shape: tuple, stride: tuple, *_: Any) -> Strided:
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise RefusedError("a tensor in it is described wrongly")
    return Strided(storage, offset, tuple(shape), tuple(stride))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _encode(text: str, *_: Any) -> bytes:
    return str(text).encode("latin1", errors="replace")


ALLOWED: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.serialization._get_layout": Shell,
    "collections.OrderedDict": OrderedDict,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.core.multiarray.scalar": Shell,
    "numpy._core.multiarray.scalar": Shell,
    "numpy.ndarray": Array,
    "numpy.dtype": ArrayType,
    "_codecs.encode": _encode,
    **{f"torch.{name}": StorageType(kind) for name, kind in STORAGES.items()},
    **{f"torch.{name}": Shell for name in ("float32", "float16", "bfloat16", "float64", "int64", "strided")},
}
"""The only things a pickle can reach; all of them are ours or plain containers."""


class Reader(pickle.Unpickler):
    """An unpickler that knows `ALLOWED`, puts shells for `INERT`, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name."""
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in ALLOWED:
            return ALLOWED[full]
        if any(full == each or full.startswith(f"{each}.") for each in INERT):
            return Shell
        raise RefusedError(f"it wants to load {repr(full)[1:-1][:120]}, which no weights need")

    def persistent_load(self, pid: Any) -> Any:
        """The storages of torch's layouts."""
        if (
            isinstance(pid, tuple)
            and len(pid) >= 5
            and pid[0] == "storage"
            and isinstance(pid[1], StorageType)
        ):
            if type(pid[4]) is not int or pid[4] < 0:
                raise RefusedError("a tensor in it is described wrongly")
            return Storage(str(pid[2]), pid[1].kind, pid[4])
        if isinstance(pid, tuple) and pid and pid[0] == "module":
            return Shell()
        raise RefusedError("it holds objects that no checkpoint has")


class Source(NamedTuple):
    """Where the bytes of a storage lie."""

    start: int
    length: int


def read(path: Path) -> tuple[dict[str, Strided], dict[str, Source | bytes]]:
    """The tensors by name, and where the numbers of each storage are."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head[:2] == b"PK":
            return _read_zip(file)
        if head[:6] == b"\x93NUMPY":
            return _read_npy(file)
        if head[:1] == b"\x80":
            return _read_pickles(file)
    raise RefusedError("it is neither a checkpoint nor a pickle")


def _read_zip(file: BinaryIO) -> tuple[dict[str, Strided], dict[str, Source | bytes]]:
    whole = file.seek(0, io.SEEK_END)
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise RefusedError("it is damaged or cut off") from error
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size
           for entry in entries.values()):  # fmt: skip
        raise RefusedError("it is a compressed archive, which no torch checkpoint is")
    if sum(entry.file_size for entry in entries.values()) > whole:
        raise RefusedError("its entries claim more than the file holds")
    names = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(names) != 1:
        raise RefusedError("it is an archive without a checkpoint's data.pkl")
    folder = names[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise RefusedError("its numbers are big-endian")
    if entries[names[0]].file_size > MAX_PICKLE:
        raise RefusedError("its description is larger than any checkpoint's")
    content = Reader(io.BytesIO(archive.read(names[0])), encoding="latin1").load()
    tensors = named_tensors(content)
    sources: dict[str, Source | bytes] = {}
    for tensor in tensors.values():
        key = tensor.storage.key
        entry = entries.get(f"{folder}data/{key}")
        if entry is None:
            raise RefusedError(f"the numbers of storage {key!r} are missing")
        sources[key] = Source(_data_start(file, entry, whole), entry.file_size)
    return tensors, sources


def _data_start(file: BinaryIO, entry: zipfile.ZipInfo, whole: int) -> int:
    """Where a stored entry's bytes begin: after its local header, whose lengths are its own."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise RefusedError("it is damaged")
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    if start + entry.file_size > whole:
        raise RefusedError("it is cut off")
    return start


def _read_pickles(file: BinaryIO) -> tuple[dict[str, Strided], dict[str, Source | bytes]]:
    whole = file.seek(0, io.SEEK_END)
    file.seek(0)
    first = Reader(file, encoding="latin1").load()
    if first != _LEGACY_MAGIC:
        if whole > MAX_PICKLE:
            raise RefusedError("it is a pickle larger than 256 MiB")
        return _from_arrays(first)
    for _ in range(2):  # protocol and system
        Reader(file, encoding="latin1").load()
    content = Reader(file, encoding="latin1").load()
    keys = Reader(file, encoding="latin1").load()
    tensors = named_tensors(content)
    kinds = {tensor.storage.key: tensor.storage.kind for tensor in tensors.values()}
    counts = _storages(content)
    sources: dict[str, Source | bytes] = {}
    if not isinstance(keys, list):
        raise RefusedError("its list of storages is missing")
    for key in map(str, keys):
        count = int.from_bytes(file.read(8), "little", signed=True)
        kind = kinds.get(key) or counts.get(key)
        if kind is None or count < 0 or file.tell() + count * SIZES[kind] > whole:
            raise RefusedError("it is damaged or cut off")
        sources[key] = Source(file.tell(), count * SIZES[kind])
        file.seek(count * SIZES[kind], io.SEEK_CUR)
    if missing := set(kinds) - set(sources):
        raise RefusedError(f"the numbers of storage {min(missing)!r} are missing")
    return tensors, sources


def _storages(content: Any) -> dict[str, str]:
    """Every storage that a pickle speaks of, named tensors or not."""
    found: dict[str, str] = {}
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Strided):
            found[value.storage.key] = value.storage.kind
        elif isinstance(value, Storage):
            found[value.key] = value.kind
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif isinstance(value, Shell) and hasattr(value, "state"):
            waiting.append(value.state)
    return found


def _read_npy(file: BinaryIO) -> tuple[dict[str, Strided], dict[str, Source | bytes]]:
    """A .npy file, of plain numbers or of one pickled dictionary of arrays."""
    file.seek(6)
    major, _ = file.read(2)
    length = int.from_bytes(file.read(2 if major == 1 else 4), "little")
    if length > 1 << 16:
        raise RefusedError("it is damaged")
    try:
        header = ast.literal_eval(file.read(length).decode("latin1").strip())
        code, shape, fortran = header["descr"], header["shape"], header["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise RefusedError("it is damaged") from error
    if "O" in str(code):
        held = Reader(file, encoding="latin1").load()
        state = held.state if isinstance(held, Array) else None
        inner = state[4] if state is not None and len(state) == 5 else None
        if not isinstance(inner, list) or len(inner) != 1:
            raise RefusedError("it holds objects that are no dictionary of arrays")
        return _from_arrays(inner[0])
    array = Array()
    kind = ArrayType(str(code))
    kind.order = str(code)[0]
    array.state = (1, shape, kind, fortran, file.read())
    return _from_arrays({"values": array})


def _from_arrays(content: Any) -> tuple[dict[str, Strided], dict[str, Source | bytes]]:
    """The numpy arrays of a plain pickle."""
    if isinstance(content, Array):
        content = {"values": content}
    if not isinstance(content, Mapping):
        raise RefusedError("it holds no named tensors")
    tensors: dict[str, Strided] = {}
    sources: dict[str, Source | bytes] = {}
    for name, value in content.items():
        if not isinstance(value, Array) or value.state is None or len(value.state) != 5:
            continue
        _, shape, kind, fortran, raw = value.state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(kind, ArrayType) or kind.code not in NUMPY or kind.order not in "<|=":
            raise RefusedError(f"array {name!r} holds numbers of an unknown kind")
        if not isinstance(raw, bytes) or not all(type(n) is int and n >= 0 for n in shape):
            raise RefusedError(f"array {name!r} is damaged")
        code = NUMPY[kind.code]
        axes = shape[::-1] if not fortran else shape
        steps, step = [], 1
        for size in axes:
            steps.append(step)
            step *= size
        stride = tuple(steps[::-1] if not fortran else steps)
        tensors[str(name)] = Strided(
            Storage(str(name), code, len(raw) // SIZES[code]), 0, tuple(shape), stride
        )
        sources[str(name)] = raw
    if not tensors:
        raise RefusedError("it holds no named tensors")
    return tensors, sources


def named_tensors(content: Any) -> dict[str, Strided]:
    """The tensors of a checkpoint by name, wherever in it they lie."""
    if isinstance(content, Shell) and isinstance(getattr(content, "state", None), Mapping):
        content = content.state
    for inside in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(inside), Mapping):
            content = content[inside]
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Strided)}
        if tensors:
            return tensors
    raise RefusedError("it holds no named tensors")


def _is_plain(tensor: Strided) -> bool:
    """Whether the numbers lie one after the other."""
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def write(
    tensors: Mapping[str, Strided], sources: Mapping[str, Source | bytes], path: Path, out: BinaryIO
) -> None:
    """Write safetensors; what does not lie in order is written as its span, its shape and strides in the metadata."""
    header: dict[str, Any] = {}
    strided: dict[str, list[list[int]]] = {}
    pieces: list[tuple[str, int, int]] = []
    at = 0
    for name, tensor in tensors.items():
        size = SIZES[tensor.storage.kind]
        if len(tensor.shape) != len(tensor.stride):
            raise RefusedError(f"tensor {name!r} is described wrongly")
        count = 1
        for length in tensor.shape:
            count *= length
        span = count if _is_plain(tensor) else 1 + sum(
            (length - 1) * step for length, step in zip(tensor.shape, tensor.stride, strict=True)
        ) if count else 0  # fmt: skip
        source = sources[tensor.storage.key]
        held = len(source) if isinstance(source, bytes) else source.length
        if (tensor.offset + span) * size > held:
            raise RefusedError(f"tensor {name!r} reaches beyond its numbers: the file is cut off")
        if count > 4 * held:  # strides of zero repeat numbers: no weight needs that
            raise RefusedError(f"tensor {name!r} claims more numbers than the file holds")
        shape = list(tensor.shape)
        if not _is_plain(tensor):
            strided[name] = [list(tensor.shape), list(tensor.stride)]
            shape = [span]
        header[name] = {"dtype": tensor.storage.kind, "shape": shape, "data_offsets": [at, at + span * size]}
        pieces.append((tensor.storage.key, tensor.offset * size, span * size))
        at += span * size
    if strided:
        header["__metadata__"] = {"strided": json.dumps(strided)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    with path.open("rb") as file:
        for key, start, length in pieces:
            out.writelines(_blocks(sources[key], file, start, length))


def _blocks(source: Source | bytes, file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source[start : start + length]
        return
    file.seek(source.start + start)
    while length:
        block = file.read(min(length, _BLOCK))
        if not block:
            raise RefusedError("it is cut off")
        length -= len(block)
        yield block


def main(arguments: list[str]) -> int:
    """Convert one file; a refusal is one line on stderr and exit code 3."""
    source, target = Path(arguments[0]), Path(arguments[1])
    try:
        tensors, sources = read(source)
    except RefusedError as refused:
        return _refused(str(refused))
    except DAMAGE as error:
        return _refused(f"it is damaged or no checkpoint ({type(error).__name__})")
    try:
        with target.open("wb") as out:
            write(tensors, sources, source, out)
    except RefusedError as refused:
        return _refused(str(refused))
    except OSError as error:
        return _refused(f"its numbers cannot be copied ({error.strerror})")
    except DAMAGE as error:
        return _refused(f"it is damaged or no checkpoint ({type(error).__name__})")
    return 0


def _refused(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
