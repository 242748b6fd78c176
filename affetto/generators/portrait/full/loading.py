"""The pulled weights as networks, or the commands that pull them."""

import torch
from torch import nn

from affetto.generators.portrait.full import checkpoints
from affetto.runtime.errors import MissingResourceError
from affetto.weights.registry import get
from affetto.weights.store import expected_path, weight_path

WEIGHTS = (checkpoints.DICE_ID, checkpoints.SVD_ID, checkpoints.WHISPER_ID)
_DICE = ("unet", "audio_linear", "emotion_model", "pose_guider", "interpolator")


def missing_weights() -> list[str]:
    """The ids of the weights that have not been pulled."""
    return [name for name in WEIGHTS if not expected_path(get(name)).is_file()]


def check_weights() -> None:
    """Raise MissingResourceError with the commands that get what is missing."""
    missing = missing_weights()
    if missing:
        commands = " && ".join(f"affetto weights pull {name}" for name in missing)
        raise MissingResourceError(
            f"DICE-Talk needs weights that are not here ({', '.join(missing)}): run {commands}"
        )


def pulled_networks(dtype: torch.dtype) -> dict[str, nn.Module]:
    """Every network of the pipeline by its name there; raises MissingResourceError like `check_weights`."""
    check_weights()
    dice, _, rest = checkpoints.read_bundle(weight_path(WEIGHTS[0]), checkpoints.DICE_FORMAT, _DICE, dtype)
    svd, sizes, _ = checkpoints.read_bundle(
        weight_path(WEIGHTS[1]), checkpoints.SVD_FORMAT, ("vae", "image_encoder"), dtype
    )
    dice["emotion_model"].priors.copy_(rest["priors"])  # type: ignore[operator]
    return {**dice, **svd, "speech": checkpoints.read_whisper(weight_path(WEIGHTS[2]), sizes, dtype)}
