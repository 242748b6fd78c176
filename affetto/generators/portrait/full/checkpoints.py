"""DICE-Talk's published files as files of ours: every name and shape checked, pickles left behind.

Two files come of it: `dice-talk` (denoiser, projections, emotion model, guider, interpolation, emotion priors) and `svd-xt`
(the autoencoder and image encoder of Stable Video Diffusion). `whisper-tiny` is kept as it is published. Names inside
are the published ones behind the network's name, so that a file can be compared with its source.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.bank import EmotionBank
from affetto.generators.portrait.full.priors import stacked
from affetto.generators.portrait.full.projections import EmotionModel
from affetto.generators.portrait.full.sizes import DiceSizes
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import check_safetensors
from affetto.weights.tensors import check_layout

DICE_ID, SVD_ID, WHISPER_ID = "dice-talk", "svd-xt", "whisper-tiny"
DICE_FORMAT, SVD_FORMAT = "dice-talk-1", "svd-xt-1"

Tensors = dict[str, Tensor]
Parts = Mapping[str, Mapping[str, Tensor]]
Converted = tuple[Tensors, dict[str, str]]

_DICE_FILES = {
    "unet.pth": "unet", "audio_linear.pth": "audio_linear", "emo_model.pth": "emotion_model",
    "pose_guider.pth": "pose_guider", "flownet.pkl": "interpolator",
}  # fmt: skip
_SVD_FOLDERS = {"vae": "vae", "image_encoder": "image_encoder"}
_WRAPPED = "module."  # what training on several devices leaves before each name
_DISCRIMINATOR = "classifier."
_OURS = ("bank.probe.", "priors")
"""What our emotion model holds beside the published one."""


def convert_dice_talk(parts: Parts, sizes: DiceSizes | None = None) -> Converted:
    """The tensors of `dice-talk` and their metadata, from those of the published files by their names.

    Names may have folders: unet.pth (1556 entries), audio_linear.pth (8), emo_model.pth (31, or 25 without the
    discriminator), pose_guider.pth (16), flownet.pkl (160) and eight priors such as happy.npy, each with `mu`. Raises
    InvalidInputError for a missing or foreign part, name or shape.
    """
    sizes = sizes or DiceSizes()
    given = {Path(name).name: tensors for name, tensors in parts.items()}
    found: Tensors = {}
    for file, network in _DICE_FILES.items():
        if file not in given:
            raise InvalidInputError(f"{file} is missing: give the folder that holds all of DICE-Talk's files")
        tensors = {key.removeprefix(_WRAPPED): value for key, value in given[file].items()}
        check_layout(_shapes(tensors), official_layout(network, sizes, tensors), f"DICE-Talk ({file})")
        found |= {f"{network}.{key}": value.contiguous() for key, value in tensors.items()}
    priors = {
        name: given[f"{name}.npy"]["mu"].reshape(-1)
        for name in ANCHORS_8
        if "mu" in given.get(f"{name}.npy", {})
    }
    return found | {"priors": stacked(priors)}, {"format": DICE_FORMAT, "sizes": sizes.to_json()}


def convert_svd_xt(parts: Parts, sizes: DiceSizes | None = None) -> Converted:
    """The tensors of `svd-xt` and their metadata, from the published files in the folders vae and image_encoder."""
    sizes = sizes or DiceSizes()
    found: Tensors = {}
    for folder, network in _SVD_FOLDERS.items():
        files = [tensors for name, tensors in parts.items() if folder in Path(name).parent.parts]
        if len(files) != 1:
            raise InvalidInputError(
                f"{folder}/*.safetensors: {len(files)} files, not one: give SVD-xt's folder as it is published"
            )
        tensors = {key: value for key, value in files[0].items() if not key.endswith("position_ids")}
        check_layout(_shapes(tensors), official_layout(network, sizes, tensors), f"SVD-xt ({folder})")
        found |= {f"{network}.{key}": value.contiguous() for key, value in tensors.items()}
    return found, {"format": SVD_FORMAT, "sizes": sizes.to_json()}


def official_layout(
    network: str, sizes: DiceSizes, given: Mapping[str, Tensor] | None = None
) -> dict[str, tuple[int, ...]]:
    """The published names and shapes of a network; without the discriminator when `given` has nothing of it."""
    layout = _shapes(to_official(network, sizes.empty(network)))
    if given is not None and not any(key.startswith(_DISCRIMINATOR) for key in given):
        layout = {key: shape for key, shape in layout.items() if not key.startswith(_DISCRIMINATOR)}
    return layout


def to_official(network: str, module: nn.Module) -> Tensors:
    """The state of a network under its published names."""
    state = dict(module.state_dict())
    if network == "audio_linear":
        return {key.removeprefix("expand."): value for key, value in state.items()}
    if network == "emotion_model":
        kept = {key: value for key, value in state.items() if not key.startswith(_OURS)}
        return {_official_emotion(key): value for key, value in kept.items()}
    return state


def fill(
    network: str, sizes: DiceSizes, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> nn.Module:
    """The network `network` with the published `tensors` in it, for use; strict. No memory is filled twice."""
    state = {key: value if dtype is None else value.to(dtype) for key, value in tensors.items()}
    if network == "emotion_model":
        return _emotion_model(sizes, state)
    if network == "audio_linear":
        state = {f"expand.{key}": value for key, value in state.items()}
    module = sizes.empty(network)
    check_layout(_shapes(state), _shapes(module.state_dict()), network)
    module.load_state_dict(state, assign=True)
    return module.requires_grad_(False).eval()


def read_bundle(
    path: Path, form: str, networks: tuple[str, ...], dtype: torch.dtype | None = None
) -> tuple[dict[str, nn.Module], DiceSizes, Tensors]:
    """The networks in a file of ours, its sizes, and its further tensors; read one network at a time.

    Raises InvalidInputError for another file.
    """
    check_safetensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != form:
            raise InvalidInputError(
                f"{path}: holds no {form} weights: pull or convert them with affetto weights"
            )
        sizes = DiceSizes.from_json(metadata["sizes"])
        names = list(file.keys())
        modules = {}
        for network in networks:
            prefix = f"{network}."
            own = [name for name in names if name.startswith(prefix)]
            state = {name.removeprefix(prefix): file.get_tensor(name) for name in own}
            modules[network] = fill(network, sizes, state, dtype)
        rest = {name: file.get_tensor(name) for name in names if "." not in name}
    return modules, sizes, rest


def read_whisper(path: Path, sizes: DiceSizes, dtype: torch.dtype | None = None) -> nn.Module:
    """The encoder in whisper's published file; its decoder is not read."""
    check_safetensors(path)
    with safe_open(path, framework="pt") as file:
        state = {}
        for name in file.keys():  # noqa: SIM118
            inner = name.removeprefix("model.")
            if inner.startswith("encoder."):
                state[inner] = file.get_tensor(name)
    return fill("speech", sizes, state, dtype)


def _emotion_model(sizes: DiceSizes, state: Tensors) -> EmotionModel:
    options = dict(sizes.emotion_model)
    if not any(key.startswith(_DISCRIMINATOR) for key in state):
        options["features"] = 0
    with torch.device("meta"):
        model = EmotionModel(**options)
    model.bank = EmotionBank.from_dice_talk(state)
    model.priors = torch.zeros(model.priors.shape, dtype=model.bank.codes.dtype)
    if model.classifier is not None:
        own = {key: value for key, value in state.items() if key.startswith(_DISCRIMINATOR)}
        model.classifier.load_state_dict(
            {key.removeprefix(_DISCRIMINATOR): value for key, value in own.items()}, assign=True
        )
    return model.requires_grad_(False).eval()


_BANK_NAMES = {
    "bank.query.": "emo_linear.",
    "bank.expand.": "kv_tokens_linear.",
    "bank.encode.": "codebook.fc.",
    "bank.codes": "codebook.codebook.weight",
    "bank.to_q.": "attention.fc_q.",
    "bank.to_k.": "attention.fc_k.",
    "bank.to_v.": "attention.fc_v.",
}


def _official_emotion(key: str) -> str:
    for ours, theirs in _BANK_NAMES.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def bundle_of(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """The entries of a bundle that holds these networks, under their published names."""
    for network, module in modules.items():
        for key, value in to_official(network, module).items():
            yield f"{network}.{key}", value
