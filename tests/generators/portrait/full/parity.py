"""The parity pack of DICE-Talk: where it lies, its recipe, and modules filled by official names."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

SALT = os.environ.get("AFFETTO_PARITY_SALT", "a")


def folder():
    default = Path(__file__).resolve().parents[4].parent / "shared" / "parity"
    found = Path(os.environ.get("AFFETTO_PARITY_DIR", default))
    golden = found / "dice_talk" / f"golden_{SALT}.npz"
    if not golden.is_file():
        pytest.skip(f"no parity pack at {golden}: set AFFETTO_PARITY_DIR")
    return found


def recipe():
    module = importlib.util.spec_from_file_location("parity_recipe", folder() / "recipe.py")
    loaded = importlib.util.module_from_spec(module)
    module.loader.exec_module(loaded)
    return loaded


def tensor(name, shape):
    return recipe().tensor(name, shape, SALT)


def golden(name):
    with np.load(folder() / "dice_talk" / f"golden_{SALT}.npz") as held:
        return torch.from_numpy(held[name])


def state_keys(module):
    keys = json.loads((folder() / "dice_talk" / "state_keys.json").read_text())[module]
    return {key: tuple(shape) for key, shape in keys.items()}


def official(module):
    """The recipe's tensors under the official names of a module at its real sizes."""
    book = recipe()
    return {key: book.value(key, shape, SALT) for key, shape in state_keys(module).items()}


def filled(module):
    """A module whose own names are the official ones, filled in place."""
    recipe().fill_(module.state_dict(), SALT)
    return module.eval()


def differs(found, expected):
    return (found.reshape(expected.shape) - expected).abs().max().item()
