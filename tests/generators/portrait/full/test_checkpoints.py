"""Published files: accepted exactly, refused otherwise, and loaded by the pipeline."""

import pytest
import torch

from affetto.conditioning.anchors import ANCHORS_8
from affetto.generators.portrait.full.checkpoints import (
    SVD_FORMAT,
    convert_dice_talk,
    convert_svd_xt,
    official_layout,
    to_official,
)
from affetto.generators.portrait.full.loading import check_weights
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.sizes import DiceSizes
from affetto.runtime.errors import InvalidInputError, MissingResourceError
from affetto.weights.store import save_tensors

from . import parity
from .small import TINY, tiny_pipeline

OFFICIAL = {
    "unet": ("unet", 1556),
    "audio_linear": ("audio_linear", 8),
    "emotion_model": ("emo_model", 31),
    "pose_guider": ("pose_guider", 16),
    "interpolator": ("rife", 160),
}


def published(pipe):
    """What the published folder would hold for the networks of a pipeline."""
    files = {
        "DICE-Talk/unet.pth": to_official("unet", pipe.unet),
        "DICE-Talk/audio_linear.pth": to_official("audio_linear", pipe.audio_linear),
        "DICE-Talk/emo_model.pth": to_official("emotion_model", pipe.emotion_model),
        "DICE-Talk/pose_guider.pth": to_official("pose_guider", pipe.pose_guider),
        "RIFE/flownet.pkl": {
            f"module.{key}": value for key, value in to_official("interpolator", pipe.interpolator).items()
        },
    }
    priors = zip(ANCHORS_8, pipe.emotion_model.priors, strict=True)
    return files | {f"emo/{name}.npy": {"mu": prior[None]} for name, prior in priors}


def svd_files(pipe):
    return {
        "vae/diffusion_pytorch_model.fp16.safetensors": pipe.vae.state_dict(),
        "image_encoder/model.fp16.safetensors": {
            **pipe.image_encoder.state_dict(),
            "vision_model.embeddings.position_ids": torch.arange(5),
        },
    }


@pytest.mark.parametrize("network", OFFICIAL)
def test_parity_of_every_published_name_and_shape_at_real_size(network):
    theirs, entries = OFFICIAL[network]
    layout = official_layout(network, DiceSizes())
    assert len(layout) == entries
    assert layout == parity.state_keys(theirs)


def test_networks_of_real_size_are_built_without_memory_and_have_the_published_size():
    millions = {"vae": 97.743, "image_encoder": 632.077, "speech": 8.208, "unet": 1626.859}
    for name, size in millions.items():
        network = DiceSizes().empty(name)
        assert all(parameter.is_meta for parameter in network.parameters())
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count / 1e6 == pytest.approx(size, abs=1e-3)


def test_published_files_are_converted_and_loaded_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    pipe = tiny_pipeline()
    folder = tmp_path / "weights"
    folder.mkdir()
    save_tensors(folder / "dice-talk.safetensors", *convert_dice_talk(published(pipe), TINY))
    save_tensors(folder / "svd-xt.safetensors", *convert_svd_xt(svd_files(pipe), TINY))
    whisper = {f"model.{key}": value for key, value in pipe.speech.state_dict().items()}
    save_tensors(folder / "whisper-tiny.safetensors", {**whisper, "model.decoder.x": torch.zeros(1)}, {})
    loaded = DiceTalkPipeline.from_pretrained("dice-talk", device="cpu")
    for name, network in pipe.components.items():
        if isinstance(network, torch.nn.Module):
            own, read = network.state_dict(), getattr(loaded, name).state_dict()
            own = {key: value for key, value in own.items() if "probe" not in key}
            assert all(torch.equal(value, read[key]) for key, value in own.items()), name


def test_a_missing_or_foreign_part_is_named():
    files = published(tiny_pipeline())
    with pytest.raises(InvalidInputError, match=r"flownet\.pkl is missing"):
        convert_dice_talk({k: v for k, v in files.items() if "flownet" not in k}, TINY)
    with pytest.raises(InvalidInputError, match="prior 'sad' is missing"):
        convert_dice_talk({k: v for k, v in files.items() if "sad" not in k}, TINY)
    other = {**files, "DICE-Talk/unet.pth": {"x": torch.zeros(1)}}
    with pytest.raises(InvalidInputError, match=r"DICE-Talk \(unet\.pth\)"):
        convert_dice_talk(other, TINY)
    extra = {**files["DICE-Talk/pose_guider.pth"], "more": torch.zeros(1)}
    with pytest.raises(InvalidInputError, match="'more' is unknown"):
        convert_dice_talk({**files, "DICE-Talk/pose_guider.pth": extra}, TINY)
    with pytest.raises(InvalidInputError, match="SVD-xt's folder"):
        convert_svd_xt({}, TINY)


def test_another_file_under_our_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for name in ("dice-talk", "svd-xt", "whisper-tiny"):
        save_tensors(
            tmp_path / "weights" / f"{name}.safetensors", {"x": torch.zeros(1)}, {"format": SVD_FORMAT}
        )
    with pytest.raises(InvalidInputError, match="holds no dice-talk-1 weights"):
        DiceTalkPipeline.from_pretrained("dice-talk", device="cpu")


def test_missing_weights_are_named_with_the_commands_that_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError) as caught:
        check_weights()
    assert caught.value.exit_code == 4
    for name in ("dice-talk", "svd-xt", "whisper-tiny"):
        assert f"affetto weights pull {name}" in str(caught.value)
    with pytest.raises(MissingResourceError, match="is no folder that save_pretrained wrote"):
        DiceTalkPipeline.from_pretrained(tmp_path, device="cpu")
