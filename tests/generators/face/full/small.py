"""Networks small enough to run in a moment, with the published layout."""

import torch

from affetto.generators.face.full.emote import Emote, EmoteConfig
from affetto.generators.face.full.flint import FlintConfig

SPEECH = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
FLINT = FlintConfig(width=16, heads=2, hidden=24, expressions=100)
TINY = EmoteConfig(width=8, heads=2, hidden=16, dropout=0.0, flint=FLINT, speech=SPEECH)


def tiny_emote(seed: int = 0) -> Emote:
    """A network whose style and sound both matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Emote(TINY).eval()
        torch.nn.init.normal_(network.sequence_decoder.decoder.weight, std=1.0)
        torch.nn.init.normal_(network.sequence_decoder.obj_vector.get_submodule("map").weight, std=1.0)
    return network
