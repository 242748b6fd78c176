"""Published checkpoints as files of ours: names and shapes checked, sizes written into the metadata."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from affetto.generators.voice.full.diffvc import DiffVC, DiffVCConfig
from affetto.generators.voice.full.hifigan import HiFiGAN, HiFiGANConfig, fold_weight_norm
from affetto.generators.voice.full.vocos import FRONT_END_KEYS, Vocos, VocosConfig
from affetto.weights.tensors import check_layout

Converted = tuple[dict[str, Tensor], dict[str, str]]


def convert_diffvc(tensors: Mapping[str, Tensor]) -> Converted:
    """DiffVC's `vc_*.pt` (346 tensors) at the published size."""
    config = DiffVCConfig()
    _check(tensors, lambda: DiffVC(config), "DiffVC")
    return _plain(tensors), {"format": "diffvc-1", "config": config.to_json()}


def convert_hifigan(tensors: Mapping[str, Tensor]) -> Converted:
    """HiFi-GAN's V1 `generator`, weight normalisation folded in."""
    config, folded = HiFiGANConfig(), fold_weight_norm(tensors)
    _check(folded, lambda: HiFiGAN(config), "HiFi-GAN V1")
    return folded, {"format": "hifigan-1", "config": config.to_json()}


def convert_vocos(tensors: Mapping[str, Tensor]) -> Converted:
    """`vocos-mel-24khz` without its mel front end, which is computed here."""
    config = VocosConfig()
    own = {key: value for key, value in tensors.items() if not key.startswith(FRONT_END_KEYS)}
    _check(own, lambda: Vocos(config), "vocos-mel-24khz")
    return _plain(own), {"format": "vocos-1", "config": config.to_json()}


def _check(tensors: Mapping[str, Tensor], build: Callable[[], nn.Module], what: str) -> None:
    with torch.device("meta"):
        network = build()
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in tensors.items()}, expected, what)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().float().contiguous() for key, value in tensors.items()}
