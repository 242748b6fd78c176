"""Vectors as discrete codes: one interface over the quantisers of vector-quantize-pytorch and those of this package.

Every quantiser computes in float32, whatever autocast says: FSP counts wrong codes in bf16, and the others return rounded ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, ResidualVQ, SimVQ, VectorQuantize
from vector_quantize_pytorch.finite_scalar_perturbation import FSP

from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class CodeStats:
    """How the codes of a batch are spread, averaged over codebooks."""

    usage: float  # share of the codes that occur
    perplexity: float  # exp of the entropy: as many codes, used evenly, would say as much
    dead: float  # codes that do not occur
    bits: float  # entropy of a token, all codebooks together


def code_statistics(indices: Int64[Tensor, "*shape book"], codes: int) -> CodeStats:
    """Usage, perplexity, dead codes and bits of indices in codebooks of `codes` codes each."""
    usage, perplexity, bits = [], [], 0.0
    for column in indices.reshape(-1, indices.shape[-1]).T:
        counts = torch.bincount(column, minlength=codes).double()
        share = counts[counts > 0] / counts.sum()
        entropy = float(-(share * share.log()).sum())
        usage.append(len(share) / codes)
        perplexity.append(float(torch.tensor(entropy).exp()))
        bits += entropy / 0.6931471805599453
    books = len(usage)
    return CodeStats(
        usage=sum(usage) / books,
        perplexity=sum(perplexity) / books,
        dead=sum(codes * (1 - each) for each in usage) / books,
        bits=bits,
    )


@dataclass(frozen=True, kw_only=True)
class QuantOut:
    """What a quantiser makes of latents: `z` with gradients to the input, its codes, and a loss to add (0 when it has none)."""

    z: Float32[Tensor, "*shape dim"]
    indices: Int64[Tensor, "*shape book"]
    loss: Float32[Tensor, ""]
    codes: int

    @cached_property
    def stats(self) -> CodeStats:
        """The spread of the codes; counted when first asked for, so that training does not wait for it."""
        return code_statistics(self.indices, self.codes)


@runtime_checkable
class Quantizer(Protocol):
    """Latents (..., dim) -> codes (..., book), each below `codes`. In eval mode `decode(out.indices)` equals `out.z` exactly."""

    dim: int
    codes: int
    books: int

    def __call__(self, z: Float[Tensor, "*shape dim"]) -> QuantOut:
        """Quantise; in training mode some quantisers move their codes or add noise instead."""
        ...

    def decode(self, indices: Int64[Tensor, "*shape book"]) -> Float32[Tensor, "*shape dim"]:
        """The latents that codes stand for."""
        ...

    def eval(self) -> object:
        """Stop moving codes and adding noise."""
        ...


def exact(decoded: Tensor, passed: Tensor) -> Tensor:
    """The values of `decoded` with the gradient of `passed`."""
    return decoded.detach() + (passed - passed.detach())


class QuantizerBase(nn.Module):
    """Float32 and shapes for quantisers: subclasses see (token, dim) and return (z, (token, book), loss)."""

    def __init__(self, dim: int, codes: int, books: int = 1) -> None:
        super().__init__()
        self.dim, self.codes, self.books = dim, codes, books

    def forward(self, z: Float[Tensor, "*shape dim"]) -> QuantOut:
        """Quantise latents of any leading shape."""
        if z.shape[-1] != self.dim:
            raise UsageError(f"this quantiser takes latents of {self.dim} dimensions, got {z.shape[-1]}")
        with torch.autocast(z.device.type, enabled=False):
            flat = z.reshape(-1, self.dim).float()
            out, indices, loss = self.quantise(flat)
            indices = indices.long().reshape(len(flat), self.books)
            if not self.training:
                out = exact(self.lookup(indices), out)
        return QuantOut(
            z=out.reshape(z.shape),
            indices=indices.reshape(*z.shape[:-1], self.books),
            loss=loss.float().sum(),
            codes=self.codes,
        )

    def decode(self, indices: Int64[Tensor, "*shape book"]) -> Float32[Tensor, "*shape dim"]:
        """The latents that codes stand for; raises `UsageError` for codes outside the codebook."""
        if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < self.codes):
            raise UsageError(f"codes must lie in 0..{self.codes - 1}")
        with torch.autocast(indices.device.type, enabled=False):
            found = self.lookup(indices.reshape(-1, self.books))
        return found.reshape(*indices.shape[:-1], self.dim)

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """(z, indices, loss) of flat float32 latents."""
        raise AssertionError("every quantiser says how it quantises")

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """The latents of flat indices."""
        raise AssertionError("every quantiser says what its codes stand for")


def _count(levels: Sequence[int]) -> int:
    if not levels or min(levels) < 3:
        raise UsageError(f"levels must be three or more, got {tuple(levels)}")
    return int(torch.tensor(levels).prod())


class FSQuantizer(QuantizerBase):
    """Finite scalar quantisation (arXiv 2309.15505): each axis is bounded and rounded to one of its levels.

    With several `books` a token is as many groups of axes (multi-token FSQ, arXiv 2508.09857). Odd levels hold exact zero.
    Without `dim` there are as many axes as levels; with it, linear maps lead in and out.
    """

    def __init__(self, levels: Sequence[int], *, dim: int | None = None, books: int = 1) -> None:
        super().__init__(dim or len(levels) * books, _count(levels), books)
        self.levels = tuple(levels)
        self.inner = FSQ(list(levels), dim=dim, num_codebooks=books, keep_num_codebooks_dim=True)

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """No loss: rounding needs none."""
        z, indices = self.inner(flat[None])
        return z[0], cast(Tensor, indices)[0], flat.new_zeros(())

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """Levels through the linear map out."""
        return self.inner.indices_to_codes(indices.int())

    def digits(self, indices: Int64[Tensor, "*shape book"]) -> Int64[Tensor, "*shape book axis"]:
        """The level on each axis: an ordered number, unlike the code."""
        return self.inner.indices_to_level_indices(indices).long()

    def from_digits(self, digits: Int64[Tensor, "*shape book axis"]) -> Int64[Tensor, "*shape book"]:
        """The codes with these levels."""
        basis = torch.cumprod(torch.tensor((1, *self.levels[:-1]), device=digits.device), 0)
        return (digits * basis).sum(dim=-1)


class FSPQuantizer(QuantizerBase):
    """Finite scalar perturbation (arXiv 2602.17133): noise as wide as a level in training, the middle of the level afterwards.

    A share `quantise_rate` of the values is rounded in training too. The loss keeps the latents' variance where the
    activation spreads them evenly over levels.
    """

    def __init__(
        self, levels: Sequence[int], *, dim: int | None = None, act: str = "tanh", quantise_rate: float = 0.0
    ) -> None:
        super().__init__(dim or len(levels), _count(levels))
        targets = {"tanh": "var_tanh", "sigmoid": "var_sigmoid", "laplace": "var_laplace", "normal": "var"}
        if act not in targets:
            raise UsageError(f"unknown activation {act!r}: use {', '.join(targets)}")
        self.inner = FSP(
            list(levels), dim=dim, act_name=act, quantize_rate=quantise_rate, vector_norm=targets[act]
        )

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss holds mean and variance."""
        z, indices, loss, _ = self.inner(flat)
        return z, indices, loss if len(flat) > 1 else flat.new_zeros(())

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """Middles of levels, of unit variance, through the linear map out."""
        return self.inner.indices_to_codes(indices[:, 0].int())


class VQQuantizer(QuantizerBase):
    """A codebook of running means of the latents near each code (VQ-VAE with EMA; rotation trick, arXiv 2410.06424).

    It begins at the k-means of the first batch; codes that fewer than two latents call for move to latents of the batch.
    `code_dim` below `dim` looks codes up in a smaller space, by angle: the best setting measured.
    """

    def __init__(
        self, dim: int, codes: int, *, code_dim: int | None = None, decay: float = 0.99, beta: float = 0.25
    ) -> None:
        super().__init__(dim, codes)
        self.inner = VectorQuantize(
            dim=dim, codebook_size=codes, codebook_dim=code_dim, decay=decay, commitment_weight=beta,
            kmeans_init=True, threshold_ema_dead_code=2, use_cosine_sim=code_dim is not None,
        )  # fmt: skip

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss draws latents to their codes."""
        z, indices, loss = self.inner(flat[None])
        return z[0], indices[0], loss

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """Rows of the codebook through the linear map out."""
        return self.inner.get_output_from_indices(indices[None, :, 0])[0]


class RVQuantizer(QuantizerBase):
    """Codebooks in a row, each for what the ones before left over (residual VQ, as in EnCodec)."""

    def __init__(
        self, dim: int, codes: int, *, books: int = 4, decay: float = 0.99, beta: float = 0.25
    ) -> None:
        super().__init__(dim, codes, books)
        self.inner = ResidualVQ(
            dim=dim, codebook_size=codes, num_quantizers=books, decay=decay, commitment_weight=beta,
            kmeans_init=True, threshold_ema_dead_code=2,
        )  # fmt: skip

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """The losses of the codebooks are summed."""
        z, indices, loss = self.inner(flat[None])
        return z[0], indices[0], loss

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """The sum of one row from each codebook."""
        return self.inner.get_output_from_indices(indices[None])[0]


class SimVQuantizer(QuantizerBase):
    """A frozen random codebook under a trained linear map (SimVQ, arXiv 2411.02038): all codes move together, none dies."""

    def __init__(self, dim: int, codes: int) -> None:
        super().__init__(dim, codes)
        self.inner = SimVQ(dim=dim, codebook_size=codes)

    def quantise(self, flat: Float32[Tensor, "token dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss draws latents and codes together."""
        z, indices, loss = self.inner(flat[None])
        return z[0], indices[0], loss

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """Rows of the mapped codebook."""
        return rearrange(self.inner.indices_to_codes(indices.T), "1 token dim -> token dim")


class JointQuantizer(QuantizerBase):
    """One latent that is now continuous, now discrete (after OneVAE, arXiv 2508.09857, whose code is not public).

    A Gaussian head (mean, log variance) and multi-token FSQ read the same latent. In training each item of the batch passes
    through the discrete half with probability `discrete_share`, which begins at 0 and grows as training goes on. The loss is
    `beta` times the divergence of the continuous items from N(0, 1), and `tie` times the squared distance of the continuous
    from the discrete latent. In eval mode the latent is discrete; `continuous` gives the other.
    """

    def __init__(
        self, levels: Sequence[int], dim: int, *, books: int = 1, beta: float = 1e-3, tie: float = 0.1
    ) -> None:
        super().__init__(dim, _count(levels), books)
        self.fsq = FSQuantizer(levels, dim=dim, books=books)
        self.gaussian = nn.Linear(dim, 2 * dim)
        with torch.no_grad():  # the continuous half begins as the identity, with little noise
            self.gaussian.weight.copy_(torch.cat([torch.eye(dim), torch.zeros(dim, dim)]))
            self.gaussian.bias.copy_(torch.cat([torch.zeros(dim), torch.full((dim,), -4.0)]))
        self.beta, self.tie, self.discrete_share = beta, tie, 0.0

    def forward(self, z: Float[Tensor, "*shape dim"]) -> QuantOut:
        """Items of the first axis are switched as wholes."""
        found = self.fsq(z)
        if not self.training:
            return found
        with torch.autocast(z.device.type, enabled=False):
            mean, log_variance = self.gaussian(z.float()).chunk(2, dim=-1)
            log_variance = log_variance.clamp(-12.0, 8.0)
            sampled = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            items = torch.rand(z.shape[:1] + (1,) * (z.ndim - 1), device=z.device)
            discrete = items < self.discrete_share
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
            apart = (found.z.detach() - sampled) ** 2
            loss = self.beta * torch.where(discrete, 0.0, divergence).mean() + self.tie * apart.mean()
        return QuantOut(
            z=torch.where(discrete, found.z, sampled), indices=found.indices, loss=loss, codes=self.codes
        )

    def continuous(self, z: Float[Tensor, "*shape dim"]) -> Float32[Tensor, "*shape dim"]:
        """The mean of the continuous latent."""
        with torch.autocast(z.device.type, enabled=False):
            return self.gaussian(z.float())[..., : self.dim]

    def lookup(self, indices: Int64[Tensor, "token book"]) -> Float32[Tensor, "token dim"]:
        """What the discrete half's codes stand for."""
        return self.fsq.lookup(indices)
