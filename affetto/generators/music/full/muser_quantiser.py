"""MusER's codebook, which follows what it is given, and the term that ties each latent slice to its musical element."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int64
from torch import Tensor, nn

_PUBLISHED_STEPS = 10**6  # files do not tell how long they were trained: their averages count as settled


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """Codes, their vectors (gradients pass straight through), and the commitment loss."""

    z: Float[Tensor, "batch word width"]
    indices: Int64[Tensor, "batch word"]
    loss: Float[Tensor, ""]


class MovingSum(nn.Module):
    """An exponential moving average from zero, before its correction."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("hidden", torch.zeros(*shape))


class MovingCodebook(nn.Module):
    """Vector quantisation whose codes are moving averages of the vectors they stand for; moves in training only.

    Published: the codes move at every forward pass and the count of steps is lost with each file. Here `steps` is a
    buffer (kept by the recipe's checkpoints, not in the published layout).
    """

    DECAY, COMMITMENT, EPSILON = 0.99, 0.25, 1e-5

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", nn.init.xavier_uniform_(torch.empty(codes, width)))
        self.ema_dw, self.ema_cluster_size = MovingSum(codes, width), MovingSum(codes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)

    @property
    def codes(self) -> Float[Tensor, "code width"]:
        """The vector of each code."""
        return self.get_buffer("embeddings")

    def settle(self) -> None:
        """Count the averages as those of a long training, as a published file's are."""
        self.get_buffer("steps").fill_(_PUBLISHED_STEPS)

    def indices(self, x: Float[Tensor, "batch word width"]) -> Int64[Tensor, "batch word"]:
        """The nearest code of each vector, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            flat, codes = rearrange(x.float(), "b n d -> (b n) d"), self.codes
            distance = flat.square().sum(1, keepdim=True) + codes.square().sum(1) - 2.0 * flat @ codes.T
            return distance.argmin(1).view(x.shape[:2])

    def forward(self, x: Float[Tensor, "batch word width"]) -> Quantised:
        """The nearest codes; in training mode they then move towards what they stood for."""
        x = x.float()
        indices = self.indices(x)
        codes = F.embedding(indices, self.codes)
        if self.training:
            self._move(x.detach(), indices)
        loss = self.COMMITMENT * F.mse_loss(x, codes)
        return Quantised(z=x + (codes - x).detach(), indices=indices, loss=loss)

    @torch.no_grad()
    def _move(self, x: Tensor, indices: Tensor) -> None:
        flat, chosen = rearrange(x, "b n d -> (b n) d"), indices.reshape(-1)
        count = torch.zeros(len(self.codes), device=x.device).index_add_(
            0, chosen, torch.ones_like(flat[:, 0])
        )
        total = torch.zeros_like(self.codes).index_add_(0, chosen, flat)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(total)
        self.get_buffer("steps").add_(1)
        sizes = self._averaged(self.ema_cluster_size, count)
        n = sizes.sum()
        sizes = (sizes + self.EPSILON) / (n + len(self.codes) * self.EPSILON) * n
        self.codes.copy_(self._averaged(self.ema_dw, total) / sizes[:, None])

    def _averaged(self, average: MovingSum, value: Tensor) -> Tensor:
        hidden = average.get_buffer("hidden")
        hidden.lerp_(value, 1.0 - self.DECAY)
        return hidden / (1.0 - self.DECAY ** self.get_buffer("steps").double()).float()


def regularisation(
    latents: Float[Tensor, "element batch word"],
    attributes: Int64[Tensor, "element batch word"],
) -> Float[Tensor, ""]:
    """How far the order of latents within a batch is from that of the attributes; the sum over elements (eq. 5).

    For each element the mean over all pairs of clips and all words of |tanh(z_j - z_k) - sign(x_j - x_k)|.
    """
    ordered = (attributes[:, :, None] - attributes[:, None]).sign()
    spread = torch.tanh(latents[:, :, None] - latents[:, None])
    return reduce((spread - ordered).abs(), "element j k word -> element", "mean").sum()
