"""Noise in place of quantisation while training, codes afterwards (VP-VAE, arXiv 2602.17133).

Each latent is moved within a ball as large as a code's cell would be, by a Metropolis-Hastings step that leaves the
distribution of latents as it is; the decoder thus learns to bear quantisation without a codebook to train.
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from affetto.runtime.errors import UsageError
from affetto.tokenizers.quantizers import QuantizerBase

_CHUNK = 1 << 24  # distances held at once


def neighbour_distances(
    points: Float32[Tensor, "point dim"], among: Float32[Tensor, "other dim"], ranks: tuple[int, ...]
) -> Float32[Tensor, "point rank"]:
    """The distances to the nearest neighbours of these ranks (1 the nearest); memory does not grow with the points."""
    size, most = max(_CHUNK // len(among), 1), max(ranks)
    wanted = torch.tensor(ranks, device=points.device) - 1
    near = [
        torch.cdist(part, among).topk(most, dim=1, largest=False).values[:, wanted]
        for part in points.split(size)
    ]
    return torch.cat(near) if near else points.new_zeros((0, len(ranks)))


def kmeans(
    points: Float32[Tensor, "point dim"],
    codes: int,
    *,
    seed: int = 0,
    rounds: int = 200,
    tolerance: float = 1e-3,
) -> Float32[Tensor, "code dim"]:
    """Centres of `codes` clusters: k-means++ whose far outliers count as the 90th percentile, then Lloyd's rounds.

    A cluster that empties takes half of the largest. Stops when the centres move less than `tolerance` of their size.
    """
    if len(points) < codes:
        raise UsageError(f"{codes} codes need as many points, got {len(points)}")
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    apart = ((points - points[chosen[0]]) ** 2).sum(dim=1)
    for _ in range(codes - 1):
        weight = apart.clamp_max(torch.quantile(apart[:: max(len(apart) // 4096, 1)], 0.9)).double()
        weight = weight if float(weight.sum()) > 0 else torch.ones_like(weight)
        at = float(torch.rand((), generator=generator)) * float(weight.sum())
        index = int(torch.searchsorted(weight.cumsum(0), at).clamp_max(len(points) - 1))
        chosen.append(index)
        apart = torch.minimum(apart, ((points - points[index]) ** 2).sum(dim=1))
    centres = points[chosen].clone()
    for _ in range(rounds):
        nearest = nearest_codes(points, centres)
        counts = torch.bincount(nearest, minlength=codes)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        moved = sums / counts.clamp_min(1)[:, None]
        for empty in torch.nonzero(counts == 0)[:, 0].tolist():
            largest = int(counts.argmax())
            members = points[nearest == largest]  # none where an empty cluster was filled in this round
            spread = members.std(dim=0, unbiased=False) if len(members) else torch.zeros_like(moved[0])
            moved[empty], moved[largest] = moved[largest] + 0.5 * spread, moved[largest] - 0.5 * spread
            counts[empty] = counts[largest] // 2
            counts[largest] -= counts[empty]
        step = float((moved - centres).norm() / centres.norm().clamp_min(1e-12))
        centres = moved
        if step < tolerance:
            break
    return centres


def nearest_codes(
    points: Float32[Tensor, "point dim"], codebook: Float32[Tensor, "code dim"]
) -> Int64[Tensor, "point"]:
    """The row of the codebook nearest to each point."""
    size = max(_CHUNK // len(codebook), 1)
    found = [torch.cdist(part, codebook).argmin(dim=1) for part in points.split(size)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=points.device)


class PerturbedQuantizer(QuantizerBase):
    """Vectors moved within their cell in training; after `fit_codebook` the nearest of `codes` codes.

    Keeps `codes` x `cell` x `dim` recent latents to know how dense they lie; each latent of a batch enters with probability
    `refresh`. `reach` scales the cells. The loss holds the latents' mean at 0 and their variance at 1. Costs two searches
    among all kept latents per token: for small codebooks on a CPU.
    """

    queue: Tensor
    codebook: Tensor
    cursor: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        codes: int,
        *,
        reach: float = 1.0,
        cell: int = 16,
        near: int = 8,
        refresh: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, codes)
        self.reach, self.near, self.refresh = reach, near, refresh
        self.samples = max(cell * dim, near)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("queue", torch.randn(codes * self.samples, dim, generator=generator))
        self.register_buffer("codebook", torch.zeros(codes, dim))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Moved latents and code 0 in training; codes afterwards."""
        if self.training:
            self._remember(flat.detach())
            moved = self.perturbed(flat.detach())
            indices = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
            return flat + (moved - flat).detach(), indices, self._norm_loss(flat)
        if not bool(self.fitted):
            raise UsageError("this quantiser has no codebook yet: call fit_codebook() after training")
        indices = nearest_codes(flat.detach(), self.codebook)
        return flat + (self.codebook[indices] - flat).detach(), indices, flat.new_zeros(())

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """Rows of the fitted codebook."""
        return self.codebook[indices[:, 0]]

    @torch.no_grad()
    def perturbed(self, flat: Float32[Tensor, "token dim"]) -> Float32[Tensor, "token dim"]:
        """Each latent moved within its cell where the Metropolis-Hastings step is accepted, else itself.

        Density is taken as the inverse volume to the `near`-th neighbour; a move counts only if the way back is possible.
        """
        ranks = (self.near, self.samples)
        around = neighbour_distances(flat, self.queue, ranks).clamp_min(1e-12)
        direction = torch.randn_like(flat)
        radius = torch.rand(len(flat), 1, device=flat.device) ** (1 / self.dim)
        step = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12) * radius
        proposed = flat + self.reach * around[:, 1:] * step
        there = neighbour_distances(proposed, self.queue, ranks).clamp_min(1e-12)
        ratio = self.dim * (around.log() - there.log()).sum(dim=1)
        chance = torch.rand(len(flat), device=flat.device).clamp_min(1e-30).log()
        back = (proposed - flat).norm(dim=1) < self.reach * there[:, 1]
        return torch.where(((chance < ratio) & back)[:, None], proposed, flat)

    @torch.no_grad()
    def fit_codebook(self, latents: Float[Tensor, "point dim"] | None = None, *, seed: int = 0) -> None:
        """Place the codes at the k-means of `latents`, of those kept from training when None."""
        points = self.queue if latents is None else latents.float()
        self.codebook.copy_(kmeans(points, self.codes, seed=seed))
        self.fitted.fill_(True)

    @torch.no_grad()
    def estimated_reach(self, latents: Float[Tensor, "point dim"]) -> float:
        """The `reach` at which noise is on average as large as the error of the fitted codebook."""
        flat = latents.float()
        error = (self.codebook[nearest_codes(flat, self.codebook)] - flat).norm(dim=1).mean()
        return self.reach * float(error / (self.perturbed(flat) - flat).norm(dim=1).mean().clamp_min(1e-12))

    def _remember(self, flat: Float32[Tensor, "token dim"]) -> None:
        kept = flat[torch.rand(len(flat), device=flat.device) < self.refresh][: len(self.queue)]
        places = (self.cursor + torch.arange(len(kept), device=flat.device)) % len(self.queue)
        self.queue[places] = kept
        self.cursor.copy_((self.cursor + len(kept)) % len(self.queue))

    def _norm_loss(self, flat: Float32[Tensor, "token dim"]) -> Tensor:
        if len(flat) < 2:
            return flat.new_zeros(())
        variance, mean = torch.var_mean(flat, dim=0)
        return 0.1 * (mean**2).mean() + 0.07 * ((variance - 1) ** 2).mean()
