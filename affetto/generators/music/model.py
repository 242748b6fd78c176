"""What the composer learned, as one file: the network, the levels of the faders, and how chords follow each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from affetto.generators.music.composer_data import FaderScale
from affetto.generators.music.composer_net import ComposerConfig, ComposerNet
from affetto.generators.music.harmony import HarmonyModel
from affetto.weights.store import load_arrays, read_arrays, save_tensors

WEIGHTS = "music-composer"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComposerModel:
    """The parts that write music."""

    net: ComposerNet
    scale: FaderScale
    harmony: HarmonyModel

    @classmethod
    def load(cls, path: str | Path | None = None) -> "ComposerModel":
        """The shipped model, or one that the recipe wrote."""
        arrays, metadata = load_arrays(WEIGHTS) if path is None else read_arrays(path)
        net = ComposerNet(ComposerConfig.from_metadata(metadata))
        state = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in net.state_dict()}
        net.load_state_dict(state)
        return cls(
            net=net.eval(),
            scale=FaderScale(
                edges=arrays["scale_edges"].astype(np.float64),
                middles=arrays["scale_middles"].astype(np.float64),
            ),
            harmony=HarmonyModel(
                chords=arrays["harmony_chords"].astype(np.int64),
                counts=arrays["harmony_counts"].astype(np.float32),
            ),
        )

    def save(self, path: str | Path, metadata: Mapping[str, str], *, half: bool = False) -> None:
        """Write the model; `half` stores the network in half precision, as it is shipped."""
        kind = np.float16 if half else np.float32
        tensors = {
            name: value.detach().cpu().numpy().astype(kind) for name, value in self.net.state_dict().items()
        }
        tensors["scale_edges"], tensors["scale_middles"] = self.scale.edges, self.scale.middles
        tensors["harmony_chords"] = self.harmony.chords.astype(np.int16)
        tensors["harmony_counts"] = np.minimum(self.harmony.counts, 2048).astype(np.float16)
        save_tensors(path, tensors, {**self.net.config.to_metadata(), **metadata})
