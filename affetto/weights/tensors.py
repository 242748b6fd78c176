"""Weight files as torch tensors."""

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
