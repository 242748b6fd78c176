"""EMOTE's weight files: what they hold, and how the authors' checkpoints become such files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affetto.generators.face.full.audio import renamed_weight_norm
from affetto.generators.face.full.emote import Emote, EmoteConfig
from affetto.generators.face.full.flint import JAW, FlintConfig
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import read_arrays, save_tensors, weight_path
from affetto.weights.tensors import check_layout

WEIGHTS_ID, FORMAT = "emote", "emote-1"
UNUSED = ("sequence_decoder.flame.", "sequence_decoder.motion_prior.motion_encoder.",
          "sequence_decoder.motion_prior.motion_quantizer.", "sequence_decoder.motion_prior.preprocessor.",
          "sequence_decoder.motion_prior.postprocessor.", "neural_losses.", "renderer.", "preprocessor.",
          "video_emotion_loss.", "lip_reading_loss.")  # fmt: skip
"""What a published file may hold beside the network: FLAME's own arrays, FLINT's encoder, networks of the losses."""

_OUT = "sequence_decoder.motion_prior.motion_decoder.cross_smooth_layer.weight"
_PROJECTION = "sequence_decoder.motion_prior.motion_decoder.post_transformer_linear.weight"

Converted = tuple[dict[str, Tensor], dict[str, str]]


def convert_emote(tensors: Mapping[str, Tensor], source: Path | None = None) -> Converted:
    """The published EMOTE or EMOTE_v2 checkpoint: sizes are read from it, names and shapes checked against ours.

    A file of our own recipe is taken as it is. Raises InvalidInputError in words for the checkpoint of something else.
    """
    if source is not None and (own := _own(source)) is not None:
        return own
    own = renamed_weight_norm({k: v for k, v in tensors.items() if not k.startswith(UNUSED)})
    for key, what in ((_OUT, "FLINT's decoder"), ("sequence_encoder.linear.weight", "the audio encoder")):
        if key not in own:
            raise InvalidInputError(f"no {key!r} ({what}): these are not the weights of EMOTE")
    config = _config_of(own)
    with torch.device("meta"):
        network = Emote(config)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    spoken = "audio_model.model.masked_spec_embed"
    if spoken not in own and spoken in expected:  # of no use outside pre-training; not in every file
        own[spoken] = torch.zeros(expected[spoken])
    for key in expected:
        if key.endswith("num_batches_tracked") and key not in own:
            own[key] = torch.zeros((), dtype=torch.int64)
    check_layout({key: tuple(value.shape) for key, value in own.items()}, expected, "EMOTE")
    plain = {k: v.detach().float() if v.is_floating_point() else v for k, v in own.items()}
    return {k: v.contiguous() for k, v in plain.items()}, {"format": FORMAT, "config": config.to_json()}


def _own(source: Path) -> Converted | None:
    """The content of a file that our recipe wrote, or None."""
    with source.open("rb") as file:
        if file.read(9)[8:9] != b"{":
            return None
    arrays, metadata = read_arrays(source)
    if metadata.get("format") != FORMAT:
        return None
    return {key: torch.from_numpy(value) for key, value in arrays.items()}, metadata


def _config_of(state: Mapping[str, Tensor]) -> EmoteConfig:
    """The published sizes, but for the number of expressions and the final projection, in which releases differ."""
    channels = state[_OUT].shape[0]
    width = state[_OUT].shape[1]
    flint = FlintConfig(width=width, expressions=channels - JAW, projected=_PROJECTION in state)
    return EmoteConfig(flint=flint)


def save_emote(path: str | Path, network: Emote, **notes: str) -> Path:
    """Write a network of ours."""
    metadata = {"format": FORMAT, "config": network.config.to_json(), **notes}
    return save_tensors(path, network.state_dict(), metadata)


def load_emote(path: str | Path | None = None) -> Emote:
    """The network in a converted file (the registered one without `path`), in evaluation mode.

    Raises MissingResourceError with the command that gets it, or InvalidInputError for another file.
    """
    path = weight_path(WEIGHTS_ID) if path is None else Path(path)
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != FORMAT:
        raise InvalidInputError(
            f"{path}: holds no EMOTE weights: convert the checkpoint with affetto weights convert emote"
        )
    network = Emote(EmoteConfig.from_json(metadata["config"]))
    fill(network, {key: torch.from_numpy(array) for key, array in arrays.items()}, f"{path}: EMOTE")
    return network.eval()


def fill(network: torch.nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Load strictly, so that a wrong file is named and nothing stays random."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in state.items()}, expected, what)
    network.load_state_dict(dict(state))
