"""Emotion embeddings for EmoReg: our own embedder, or a user's wav2vec 2.0 / HuBERT-like network with a linear head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from affetto.conditioning.encoders.voice_embedding import WEIGHTS_ID, WIDTH, VoiceEmbedder
from affetto.runtime.device import autocast
from affetto.runtime.errors import InvalidInputError, MissingResourceError

RATE = 16_000
EMBEDDED = WEIGHTS_ID
"""The name under which a file of EmoReg weights remembers that it was trained with our own embedder."""

_LONGEST = 20 * RATE  # samples read at once; longer sound is read in pieces

Sound = Float32[np.ndarray, "_"]  # mono samples at 16 kHz


@runtime_checkable
class EmotionEmbedding(Protocol):
    """Embeds sounds: mono samples at 16 kHz in, one vector of 256 for each out, on the CPU."""

    def __call__(self, sound: Sequence[Sound]) -> Float32[Tensor, "item 256"]:
        """The embeddings, in order."""
        ...


class NetworkEmbedding:
    """The mean state of a self-supervised speech network through one linear layer (as emotion2vec with EmoReg's head).

    The network is read from a folder in the transformers layout (config.json, model.safetensors): wav2vec 2.0, HuBERT,
    WavLM, data2vec-audio. Nothing is downloaded.
    """

    def __init__(
        self, trunk: nn.Module, head: nn.Linear, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.trunk, self.head = trunk.eval().to(device), head.eval().to(device)
        self.device, self.dtype = device, dtype

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        head: nn.Linear | None = None,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> "NetworkEmbedding":
        """The network of a folder, with a head of fixed random numbers unless a trained one is given."""
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise MissingResourceError(
                f"{folder}: holds no speech network (config.json): name a folder in the transformers layout"
            )
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            trunk = AutoModel.from_pretrained(folder, config=config, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:160]
            raise InvalidInputError(f"{folder}: is no usable speech network ({reason})") from error
        return cls(trunk, head or new_head(int(config.hidden_size)), device=device, dtype=dtype)

    def __call__(self, sound: Sequence[Sound]) -> Float32[Tensor, "item 256"]:
        """One embedding for each sound."""
        return torch.stack([self.head(self.state(each)).float().cpu() for each in sound]).detach()

    @torch.no_grad()
    def state(self, sound: Sound) -> Float32[Tensor, "width"]:
        """The network's last states, averaged over time; what the head is trained on."""
        if len(sound) < RATE // 10:
            raise InvalidInputError(f"a sound of {len(sound) / RATE:.2f} s is too short: give 0.1 s")
        states, weights = [], []
        for piece in np.array_split(sound, -(-len(sound) // _LONGEST)):
            normal = (piece - piece.mean()) / np.sqrt(piece.var() + 1e-7)
            waveform = torch.from_numpy(normal.astype(np.float32))[None].to(self.device)
            with autocast(self.device, self.dtype):
                states.append(self.trunk(waveform).last_hidden_state[0].float().mean(dim=0))
            weights.append(len(piece))
        share = torch.tensor(weights, device=self.device) / sum(weights)
        return (torch.stack(states) * share[:, None]).sum(dim=0)


def new_head(width: int, seed: int = 0) -> nn.Linear:
    """A linear layer from `width` to 256, its start fixed by `seed`."""
    head = nn.Linear(width, WIDTH)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(WIDTH, width, generator=generator) * width**-0.5)
        head.bias.zero_()
    return head


def train_head(
    states: Float[Tensor, "item width"],
    labels: Sequence[str],
    *,
    steps: int = 300,
    rate: float = 1e-3,
    seed: int = 0,
) -> nn.Linear:
    """The head from whose 256 numbers the emotions of the labels are read best by a linear layer.

    As EmoReg fine-tunes: cross-entropy over the classes; the classifier itself is thrown away.
    """
    names = sorted(set(labels))
    target = torch.tensor([names.index(label) for label in labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head, classes = new_head(states.shape[1], seed), nn.Linear(WIDTH, len(names))
    optimiser = torch.optim.AdamW([*head.parameters(), *classes.parameters()], lr=rate, weight_decay=0.01)
    known = states.detach().float()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(classes(torch.tanh(head(known))), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return head.requires_grad_(False)


def open_embedding(
    name: str, head: nn.Linear | None, *, device: torch.device, dtype: torch.dtype
) -> EmotionEmbedding:
    """Our embedder for `voice-embedding`, else the network of the folder `name`."""
    if name == EMBEDDED:
        return VoiceEmbedder.from_pretrained("embedded", device=device, dtype=dtype)
    return NetworkEmbedding.from_folder(name, head, device=device, dtype=dtype)
