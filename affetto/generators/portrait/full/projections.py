"""DICE-Talk's small networks: emotion prior to tokens, speech states to tokens, face mask to features."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.bank import BankConfig, BankMode, BankOutput, EmotionBank, TokenExpander


class EmotionModel(ModelMixin, ConfigMixin):
    """Emotion priors in, tokens out, through the shared `EmotionBank`; and the discriminator used in training.

    With the default sizes it is DICE-Talk's `emo_model` (arXiv 2504.18087). `features` 0 leaves the discriminator out.
    `priors` are the published emotion priors in the order of `ANCHORS_8`.
    """

    @register_to_config
    def __init__(
        self,
        inputs: int = 256,
        width: int = 1024,
        codes: int = 64,
        tokens: int = 32,
        heads: int = 8,
        features: int = 1280,
        classes: int = 22,
    ) -> None:
        super().__init__()
        self.bank = EmotionBank(
            BankConfig(
                inputs=inputs, width=width, codes=codes, tokens=tokens, heads=heads, topk=min(4, codes)
            )
        )
        self.priors: Tensor
        self.register_buffer("priors", torch.zeros(len(ANCHORS_8), inputs))
        self.classifier = EmotionDiscriminator(features, classes) if features else None

    def forward(
        self,
        prior: Float[Tensor, "item inputs"],
        mode: BankMode = "attend",
        *,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> BankOutput:
        """What the bank answers to each prior; `memory` (see `EmotionBank.memory`) spares its expansion."""
        return self.bank(prior, mode, memory=memory)


class EmotionDiscriminator(nn.Module):
    """Logits of 22 classes (seven emotions at three levels, and neutral) from features of the denoiser's middle."""

    def __init__(self, features: int = 1280, classes: int = 22) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, 512)
        self.fc2 = nn.Linear(512, 256)
        self.fc3 = nn.Linear(256, classes)
        self.dropout = nn.Dropout(0.1)

    def forward(self, features: Float[Tensor, "item channel row column"]) -> Float[Tensor, "item klass"]:
        """The logits of the mean over all places."""
        hidden = self.dropout(F.relu(self.fc1(features.mean((-2, -1)))))
        return self.fc3(self.dropout(F.relu(self.fc2(hidden))))


class AudioProjection(ModelMixin, ConfigMixin):
    """Ten speech tokens (200 ms) of five layers in, 32 tokens out, for each frame; DICE-Talk's `audio_linear`."""

    @register_to_config
    def __init__(
        self, window: int = 10, layers: int = 5, channels: int = 384, width: int = 1024, tokens: int = 32
    ) -> None:
        super().__init__()
        self.expand = TokenExpander(window * layers * channels, width, tokens)

    def forward(
        self, speech: Float[Tensor, "*frame window layer channel"]
    ) -> Float[Tensor, "*frame token width"]:
        """The tokens of each frame."""
        return self.expand(rearrange(speech, "... window layer channel -> ... (window layer channel)"))


class PoseGuider(ModelMixin, ConfigMixin):
    """Features at an eighth of the size that tell the denoiser where the face is; frames are independent.

    Eight 3x3 convolutions with SiLU between them, every second of the inner pairs halving the size.
    """

    @register_to_config
    def __init__(self, channels: int = 320, widths: Sequence[int] = (16, 32, 96, 256)) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for inner, outer in itertools.pairwise(widths):
            self.blocks.append(nn.Conv2d(inner, inner, 3, padding=1))
            self.blocks.append(nn.Conv2d(inner, outer, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(
        self, picture: Float[Tensor, "frame 3 row column"]
    ) -> Float[Tensor, "frame channel small_row small_column"]:
        """The features of each picture (values 0..1); zero everywhere before any training."""
        hidden = F.silu(self.conv_in(picture))
        for block in self.blocks:
            hidden = F.silu(block(hidden))
        return self.conv_out(hidden)
