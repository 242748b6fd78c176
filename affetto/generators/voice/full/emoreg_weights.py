"""What a file of EmoReg weights holds: the DiffVC network, the way to the embeddings, and the emotion directions."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from affetto.conditioning.directions import DirectionalLatents
from affetto.generators.voice.full.diffvc import DiffVC, DiffVCConfig, load_diffvc
from affetto.generators.voice.full.embedding import EMBEDDED
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import check_safetensors, read_arrays, save_tensors

WEIGHTS_ID = "emoreg"
FORMAT = "affetto-emoreg-1"


@dataclass(frozen=True, kw_only=True, eq=False)
class EmoRegWeights:
    """A trained EmoReg: `embedding` names what its vectors come from, `axes` are the embeddings' principal axes."""

    network: DiffVC
    directions: DirectionalLatents
    axes: Float[Tensor, "axis 256"]
    embedding: str = EMBEDDED
    head: nn.Linear | None = None  # of a user's network
    about: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write everything as one safetensors file."""
        tensors, metadata = self.directions.tensors()
        tensors |= {key: value.detach().float() for key, value in self.network.state_dict().items()}
        tensors["axes"] = self.axes
        if self.head is not None:
            tensors |= {"head.weight": self.head.weight.detach(), "head.bias": self.head.bias.detach()}
        metadata |= {
            "emoreg": FORMAT, "config": self.network.config.to_json(), "embedding": self.embedding,
            "about": json.dumps(self.about, sort_keys=True),
        }  # fmt: skip
        return save_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "EmoRegWeights":
        """Read what `save` wrote; raises InvalidInputError for any other file."""
        path = Path(path)
        check_safetensors(path)
        arrays, metadata = read_arrays(path)
        if metadata.get("emoreg") != FORMAT:
            raise InvalidInputError(
                f"{path}: holds no EmoReg weights: train them with affetto train voice-emoreg"
            )
        tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
        network = {key: value for key, value in tensors.items() if key.startswith(("encoder.", "decoder."))}
        head = None
        if "head.weight" in tensors:
            head = nn.Linear(tensors["head.weight"].shape[1], tensors["head.weight"].shape[0])
            head.load_state_dict({"weight": tensors["head.weight"], "bias": tensors["head.bias"]})
        try:
            return cls(
                network=load_diffvc(network, DiffVCConfig.from_json(metadata["config"])),
                directions=DirectionalLatents.load(path),
                axes=tensors["axes"],
                embedding=metadata["embedding"],
                head=head,
                about=json.loads(metadata["about"]),
            )
        except (KeyError, ValueError) as error:
            raise InvalidInputError(
                f"{path}: the EmoReg weights are incomplete ({error}): train them again"
            ) from error

    def direction(
        self, name: str, place: Float[Tensor, "256"], *, directions: DirectionalLatents | None = None
    ) -> Float[Tensor, "256"]:
        """e_d for a named emotion from the embedding `place`: what full strength adds (mode `bank`)."""
        return (directions or self.directions).apply(place, name) - place

    def reference_direction(
        self, place: Float[Tensor, "256"], reference: Float[Tensor, "256"]
    ) -> Float[Tensor, "256"]:
        """e_d toward a reference recording's embedding, projected on the principal axes and back (mode `reference`)."""
        return (reference - place) @ self.axes.T @ self.axes

    def with_about(self, **notes: str) -> "EmoRegWeights":
        """The same weights with notes on where they come from."""
        return dataclasses.replace(self, about={**self.about, **notes})
