"""Reading FLAME's published pickles without running anything that is in them."""

import math
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from affetto.runtime.errors import InvalidInputError
from affetto.weights.unpickle import DAMAGE, Array, ArrayType

CHUMPY = ("chumpy",)
SPARSE = ("scipy.sparse",)
SPARSE_CLASSES = ("csc_matrix", "csr_matrix", "csc_array", "csr_array")


class _Husk:
    """Stands for an object of a class we do not load: it keeps the state and does nothing."""

    state: Any = None

    def __new__(cls, *arguments: Any) -> "_Husk":
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Chumpy(_Husk):
    """A chumpy array; the numbers are in its state under `x`."""


class _Columns(_Husk):
    """A sparse matrix by columns."""


class _Rows(_Husk):
    """A sparse matrix by rows."""


def _rebuild(cls: type, *_: Any) -> Any:
    """An instance of one of the classes we allow, without its constructor (what protocol 0 and 1 ask for)."""
    if not issubclass(cls, _Husk):
        raise pickle.UnpicklingError(f"rebuilding {cls.__name__}")
    return object.__new__(cls)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 2 strings of bytes arrive."""
    return text.encode("latin1" if encoding != "utf-8" else "utf-8")


_ALLOWED = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): ArrayType,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _rebuild,
    ("builtins", "object"): object,
    ("collections", "OrderedDict"): OrderedDict,
}


class _RefusedError(Exception):
    """A pickle named something that no FLAME file needs."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module.split(".")[0] in CHUMPY:
            return _Chumpy
        if module.startswith(SPARSE) and name in SPARSE_CLASSES:
            return _Columns if name.startswith("csc") else _Rows
        raise _RefusedError(repr(f"{module}.{name}")[1:-1][:120])


def read_flame_pickle(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a FLAME pickle by name: plain, chumpy or sparse ones as dense numpy arrays.

    Raises `InvalidInputError` when the pickle names any class or function other than those, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = _Reader(file, encoding="latin1").load()
    except _RefusedError as refused:
        raise InvalidInputError(
            f"{path}: refused, the pickle wants to load {refused}, which no FLAME model needs: "
            "download the file again from its publisher"
        ) from None
    except DAMAGE as error:
        raise InvalidInputError(
            f"{path}: not a readable pickle, or damaged: download the file again"
        ) from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path}: holds no FLAME model: download the file again")
    arrays = {str(name): _dense(path, str(name), value) for name, value in content.items()}
    return {name: value for name, value in arrays.items() if value is not None}


def _dense(path: Path, name: str, value: Any) -> np.ndarray | None:
    """The numbers in one entry, or None when it holds no numeric array."""
    if isinstance(value, _Chumpy):
        state = value.state if isinstance(value.state, dict) else {}
        inner = [item for item in state.values() if isinstance(item, Array)]
        value = state.get("x", inner[0] if len(inner) == 1 else None)
    if isinstance(value, _Rows | _Columns):
        return _unpacked(path, name, value)
    return _numbers(value)


def _numbers(value: Any) -> np.ndarray | None:
    """The array that a pickle describes, made from its bytes by ourselves; None for anything but whole numbers and floats."""
    state = value.state if isinstance(value, Array) and isinstance(value.state, tuple) else ()
    if len(state) != 5 or not isinstance(state[2], ArrayType):
        return None
    _, shape, kind, by_columns, raw = state
    raw = raw.encode("latin1", errors="replace") if isinstance(raw, str) else raw
    if not re.fullmatch(r"[fiu][1248]", kind.code) or kind.code == "f1" or not isinstance(raw, bytes):
        return None
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        return None
    dtype = np.dtype((">" if kind.order == ">" else "<") + kind.code)
    if math.prod(shape) * dtype.itemsize != len(raw):
        return None
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if by_columns is True else "C")
    return array.astype(dtype.newbyteorder("="))


def _unpacked(path: Path, name: str, husk: _Rows | _Columns) -> np.ndarray:
    """A sparse matrix written out, after its indices are checked."""
    state = husk.state if isinstance(husk.state, dict) else {}
    shape = state.get("_shape", state.get("shape"))
    data, indices, ends = (state.get(key) for key in ("data", "indices", "indptr"))
    read = (_numbers(each) for each in (data, indices, ends))
    arrays = [array for array in read if array is not None and array.ndim == 1]
    damaged = InvalidInputError(f"{path}: the sparse matrix {name} is damaged: download the file again")
    if len(arrays) != 3 or not isinstance(shape, tuple) or len(shape) != 2:
        raise damaged
    if not all(type(count) is int and count >= 0 for count in shape):
        raise damaged
    values, inner, ends = arrays
    rows, columns = shape
    outer, across = (columns, rows) if isinstance(husk, _Columns) else (rows, columns)
    counts = np.diff(ends)
    if (
        rows * columns > 1 << 26
        or any(array.dtype.kind not in "iu" for array in (inner, ends))
        or len(ends) != outer + 1
        or len(values) != len(inner)
        or (counts < 0).any()
        or int(counts.sum()) != len(inner)
        or (inner.size and not 0 <= int(inner.min()) <= int(inner.max()) < across)
    ):
        raise damaged
    dense = np.zeros((outer, across), np.float32)
    np.add.at(dense, (np.repeat(np.arange(outer), counts), inner), values)
    return dense.T if isinstance(husk, _Columns) else dense
