"""What training adds to DICE-Talk, as a file of its own: adapters, projections, emotion model, fusion, ReferenceNet.

The same file serves both recipes: `portrait-dice` trains DICE-Talk's two adapters and leaves the rest out. It is put on top of
the pulled DICE-Talk, whose denoiser it does not repeat.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.projections import AudioProjection, EmotionModel
from affetto.generators.portrait.full.synchro_denoiser import SynchroDenoiser
from affetto.generators.portrait.full.synchro_emotion import EmotionFusion
from affetto.generators.portrait.full.synchro_reference import ReferenceNet
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import read_arrays, save_tensors
from affetto.weights.tensors import check_layout

WEIGHTS_ID, FORMAT = "synchrorama", "synchrorama-1"
_ADAPTER = ".processor."


@dataclass(frozen=True, kw_only=True, eq=False)
class SynchroWeights:
    """Trained parts by name; those of SynchroRaMa alone are absent when only DICE-Talk's adapters were trained."""

    adapters: Mapping[str, Tensor]  # of the denoiser, by their names there
    slots: int
    parts: Mapping[str, Mapping[str, Tensor]]  # audio_linear, emotion_model, fusion, reference
    configs: Mapping[str, Mapping[str, Any]]  # of fusion and reference
    about: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        denoiser: TalkingDenoiser,
        audio_linear: AudioProjection,
        emotion_model: EmotionModel,
        fusion: EmotionFusion | None = None,
        reference: ReferenceNet | None = None,
        **about: str,
    ) -> "SynchroWeights":
        """What has been trained in these networks."""
        modules: dict[str, nn.Module | None] = {
            "audio_linear": audio_linear, "emotion_model": emotion_model, "fusion": fusion, "reference": reference,
        }  # fmt: skip
        given = {name: module for name, module in modules.items() if module is not None}
        adapters = {key: value for key, value in denoiser.state_dict().items() if _ADAPTER in key}
        configs = {
            name: _plain(cast(Any, module).config)
            for name, module in given.items()
            if name in ("fusion", "reference")
        }
        return cls(
            adapters=adapters,
            slots=int(denoiser.config["adapter_slots"]),
            parts={name: module.state_dict() for name, module in given.items()},
            configs=configs,
            about=about,
        )

    @property
    def is_synchrorama(self) -> bool:
        """Whether the whole of SynchroRaMa was trained."""
        return "fusion" in self.parts and "reference" in self.parts

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file."""
        tensors = {f"unet.{key}": value for key, value in self.adapters.items()}
        for name, state in self.parts.items():
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
        metadata = {
            "format": FORMAT, "slots": str(self.slots), "configs": json.dumps(self.configs, sort_keys=True),
            "about": json.dumps(dict(self.about), sort_keys=True),
        }  # fmt: skip
        return save_tensors(path, {key: value.detach().float() for key, value in tensors.items()}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "SynchroWeights":
        """Read what `save` wrote; raises InvalidInputError for any other file."""
        arrays, metadata = read_arrays(path)
        if metadata.get("format") != FORMAT:
            raise InvalidInputError(
                f"{path}: holds no SynchroRaMa weights: train them with affetto train portrait-synchro"
            )
        adapters: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {}
        for key, array in arrays.items():
            name, _, inner = key.partition(".")
            tensor = torch.from_numpy(array)
            if name == "unet":
                adapters[inner] = tensor
            else:
                parts.setdefault(name, {})[inner] = tensor
        return cls(
            adapters=adapters,
            slots=int(metadata["slots"]),
            parts=parts,
            configs=json.loads(metadata["configs"]),
            about=json.loads(metadata["about"]),
        )

    def put_on(
        self, denoiser: TalkingDenoiser, audio_linear: nn.Module, emotion_model: nn.Module
    ) -> TalkingDenoiser:
        """The denoiser with these adapters (another one when there is a third slot), the other two filled in place."""
        made = (
            SynchroDenoiser.from_dice(denoiser)
            if self.slots > int(denoiser.config["adapter_slots"])
            else denoiser
        )
        own = made.state_dict()
        expected = {key: tuple(value.shape) for key, value in own.items() if _ADAPTER in key}
        check_layout(
            {key: tuple(value.shape) for key, value in self.adapters.items()},
            expected,
            "adapters of this denoiser",
        )
        made.load_state_dict(
            {**own, **{key: value.to(own[key].dtype) for key, value in self.adapters.items()}}
        )
        for name, module in (("audio_linear", audio_linear), ("emotion_model", emotion_model)):
            self._fill(name, module)
        return made

    def fusion(self) -> EmotionFusion:
        """The fusion, in evaluation mode."""
        module = EmotionFusion(**self.configs["fusion"])
        self._fill("fusion", module)
        return module.eval()

    def reference(self) -> ReferenceNet:
        """The ReferenceNet, in evaluation mode."""
        module = ReferenceNet(**self.configs["reference"])
        self._fill("reference", module)
        return module.eval()

    def _fill(self, name: str, module: nn.Module) -> None:
        state = self.parts[name]
        own = module.state_dict()
        check_layout(
            {key: tuple(value.shape) for key, value in state.items()},
            {key: tuple(value.shape) for key, value in own.items()},
            name,
        )
        module.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a diffusers module was made with."""
    return {key: value for key, value in dict(config).items() if not key.startswith("_")}
