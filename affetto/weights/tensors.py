"""Weight files as torch tensors, and the tensors of other people's checkpoints."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import check_safetensors, weight_path


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
    """The tensors of a .safetensors file or of a torch checkpoint, by the names they have there.

    A checkpoint is read without running anything in it: only tensors, numbers and plain containers are allowed. Tensors
    inside one enclosing entry (`generator`, `state_dict`, `model`, `best_state`) are found. Raises InvalidInputError.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file: check the path")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        ValueError,
        KeyError,
    ) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InvalidInputError(
            f"{path}: is no checkpoint of tensors alone ({reason}): download it again"
        ) from error
    return _tensors_in(held, path)


def _tensors_in(held: Any, path: Path) -> dict[str, Tensor]:
    for inside in ("generator", "state_dict", "model", "best_state"):
        if isinstance(held, Mapping) and isinstance(held.get(inside), Mapping):
            held = held[inside]
    if isinstance(held, Mapping):
        tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise InvalidInputError(f"{path}: holds no named tensors: give the checkpoint itself")


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
        raise InvalidInputError(f"{problem}: these are not the weights of {what}")
