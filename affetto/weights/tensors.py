"""Weight files as torch tensors, and the tensors of other people's checkpoints."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from affetto.runtime import limits
from affetto.runtime.errors import InvalidInputError
from affetto.weights import unpickle
from affetto.weights.architectures import named_architecture
from affetto.weights.store import check_safetensors, refuse_impostors, weight_path

_MEMORY = 1 << 30  # bytes that unpickling may take


def load_tensors(
    weight_id: str, device: str | torch.device = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on `device`, and the metadata of a registered weight file; raises like `weight_path`."""
    path = weight_path(weight_id)
    check_safetensors(path)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise InvalidInputError(f"{path}: is damaged ({error}): delete it and download it again") from error


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a pickled checkpoint, by the names they have there.

    Nothing in a pickle runs: a process of its own, bounded in memory and time, copies the numbers out of it (see
    `unpickle`). Tensors inside one enclosing entry (`generator`, `state_dict`, `model`, `best_state`) are found. Raises
    InvalidInputError for pointers, web pages, compressed archives, pickles that name anything unusual, and damage.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file: check the path")
    with path.open("rb") as file:
        head = file.read(64)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        check_safetensors(path)
        return _held(path)
    refuse_impostors(path, head)
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "copied.safetensors"
        _copy_out(path, copied)
        return _in_order(copied)


def _copy_out(path: Path, target: Path) -> None:
    """Run `unpickle` on a file in a process without our packages, environment or terminal."""
    size = path.stat().st_size
    seconds = 120 + (size >> 23)
    bounds = [str(each) for each in (_MEMORY, seconds, size + (1 << 26))]
    program = [limits.__file__, *bounds, unpickle.__file__, str(path.absolute()), str(target)]
    command = [sys.executable, "-I", "-S", "-B", *program]
    environment = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    code, told = None, ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            check=False,
            timeout=5 * seconds,
        )
        code, told = done.returncode, done.stderr.decode(errors="replace").strip()
    if code == 0:
        return
    reason = told.splitlines()[-1][:200] if code == 3 and told else "it takes more memory or time than it may"
    raise InvalidInputError(f"{path}: {reason}: download it again from its publisher")


def _in_order(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `unpickle` wrote; those with strides are put in order."""
    with safe_open(path, framework="pt") as file:
        strided = json.loads((file.metadata() or {}).get("strided", "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, (shape, stride) in strided.items():
        tensors[name] = tensors[name].as_strided(shape, stride).contiguous()
    return tensors


def _held(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InvalidInputError(f"{path}: is damaged ({error}): delete it and download it again") from error


def check_layout(
    given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Raise InvalidInputError unless names and shapes agree; the message names the first that does not."""
    problem = None
    if missing := sorted(set(expected) - set(given)):
        problem = f"key {missing[0]!r} is missing ({len(missing)} in all)"
    elif extra := sorted(set(given) - set(expected)):
        problem = f"key {extra[0]!r} is unknown ({len(extra)} in all)"
    elif wrong := [key for key in expected if given[key] != expected[key]]:
        problem = f"{wrong[0]!r} is {given[wrong[0]]}, not {expected[wrong[0]]}"
    if problem is not None:
        other = named_architecture(given)
        looks = f" (they look like {other})" if other and other not in what else ""
        raise InvalidInputError(f"{problem}: these are not the weights of {what}{looks}")
