"""The weight files of the portrait's motion: half precision, sizes in the header."""

from collections.abc import Mapping
from pathlib import Path

import torch

from affetto.generators.portrait.motion_net import MotionConfig, MotionNet
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import read_arrays, save_tensors

WEIGHTS = "portrait-motion"


def save_net(path: Path, net: MotionNet, metadata: Mapping[str, str]) -> None:
    """Write the network in half precision, its sizes in the header."""
    tensors = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_tensors(path, tensors, {**net.config.to_metadata(), **metadata})


def load_net(path: Path) -> tuple[MotionNet, Mapping[str, str]]:
    """The network that `save_net` wrote, in fp32, and what the header tells.

    Raises InvalidInputError when the file holds something else.
    """
    arrays, metadata = read_arrays(path)
    net = MotionNet(MotionConfig.from_metadata(metadata))
    try:
        net.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
    except RuntimeError as error:
        raise InvalidInputError(
            f"{path}: not the weights of a portrait's motion: train them again"
        ) from error
    return net, metadata
