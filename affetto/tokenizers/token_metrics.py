"""Whether parts of a code speak of one thing each: MIG, SAP, DCI, and what changes when one part is swapped."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Num

from affetto.runtime.errors import UsageError

_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Dci:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018), each 0..1, higher is better."""

    disentanglement: float  # each latent speaks of one factor
    completeness: float  # each factor is spoken of by one latent
    informativeness: float  # R2 of the factors from all latents, on samples not fitted to


def mutual_information(
    latents: Num[np.ndarray, "sample latent"], factors: Num[np.ndarray, "row factor"], *, bins: int = _BINS
) -> tuple[Float64[np.ndarray, "latent factor"], Float64[np.ndarray, "factor"]]:
    """The mutual information of each latent with each factor, and the entropy of each factor, nats.

    Both are counted in `bins` equal steps of their range; what has fewer values keeps them.
    """
    _check(latents, factors)
    codes = [_binned(column, bins) for column in latents.T]
    named = [_binned(column, bins) for column in factors.T]
    shared = np.array([[_entropy(b) + _entropy(a) - _entropy(a * bins + b) for b in named] for a in codes])
    return np.maximum(shared, 0.0), np.array([_entropy(each) for each in named])


def mig(
    latents: Num[np.ndarray, "sample latent"], factors: Num[np.ndarray, "row factor"], *, bins: int = _BINS
) -> float:
    """The mutual information gap (Chen et al. 2018), 0..1: by how much the best latent of a factor beats the next."""
    shared, entropy = mutual_information(latents, factors, bins=bins)
    told = entropy > 1e-9  # a factor that never changes says nothing
    if not told.any():
        raise UsageError("no factor changes: nothing can be measured on constant factors")
    ordered = np.sort(shared[:, told], axis=0)
    second = ordered[-2] if len(ordered) > 1 else 0.0
    return float(((ordered[-1] - second) / entropy[told]).mean())


def sap(latents: Num[np.ndarray, "sample latent"], factors: Num[np.ndarray, "row factor"]) -> float:
    """The separated attribute predictability (Kumar et al. 2018) of ordered factors, 0..1.

    By how much the R2 of a straight line from the best latent of a factor exceeds that of the next.
    """
    _check(latents, factors)
    score = _correlation(latents, factors) ** 2
    ordered = np.sort(score, axis=0)
    return float((ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0.0)).mean())


def dci(
    latents: Num[np.ndarray, "sample latent"],
    factors: Num[np.ndarray, "row factor"],
    *,
    strength: float = 0.01,
) -> Dci:
    """DCI with a lasso per factor on standardised values: importance is the size of a weight; the last third is for testing.

    `strength` is the lasso's penalty. Samples should be in random order.
    """
    _check(latents, factors)
    cut = len(latents) * 2 // 3
    if len(latents) < 6:
        raise UsageError(f"DCI needs at least six samples, got {len(latents)}")
    x, y = _standard(latents, cut), _standard(factors, cut)
    weights = np.stack([_lasso(x[:cut], column, strength) for column in y[:cut].T], axis=1)
    left = ((y[cut:] - x[cut:] @ weights) ** 2).mean(axis=0) / np.maximum(y[cut:].var(axis=0), 1e-12)
    importance = np.abs(weights)
    rows, columns = importance.sum(axis=1), importance.sum(axis=0)
    if rows.sum() <= 0:
        return Dci(disentanglement=0.0, completeness=0.0, informativeness=0.0)
    purity, whole = _one_less_entropy(importance), _one_less_entropy(importance.T)
    return Dci(
        disentanglement=float((purity * rows).sum() / rows.sum()),
        completeness=float((whole * columns).sum() / columns.sum()),
        informativeness=float(np.clip(1.0 - left, 0.0, 1.0).mean()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapMatrix:
    """How far each attribute moves (column) when one group of codes is taken from another item (row).

    In shares of the way to the other item's own attribute: 1 on the diagonal and 0 elsewhere is perfect.
    """

    groups: tuple[str, ...]
    attributes: tuple[str, ...]
    moved: Float64[np.ndarray, "group attribute"]

    @property
    def diagonal_dominant(self) -> bool:
        """Whether each group moves its own attribute more than it moves any other, and more than any other group does."""
        own = np.diag(self.moved)
        others = np.abs(self.moved - np.diag(own))
        return bool((own > others.max(axis=0)).all() and (own > others.max(axis=1)).all())

    @property
    def leakage(self) -> float:
        """The mean size of what is off the diagonal, as a share of the mean on it."""
        own = np.diag(self.moved)
        count = self.moved.size - len(own)
        return float(np.abs(self.moved - np.diag(own)).sum() / max(count, 1) / max(own.mean(), 1e-9))

    def table(self) -> str:
        """The matrix as Markdown."""
        head = "| swapped | " + " | ".join(self.attributes) + " |"
        rule = "|---|" + "---|" * len(self.attributes)
        rows = [
            f"| {group} | " + " | ".join(f"{value:.2f}" for value in row) + " |"
            for group, row in zip(self.groups, self.moved, strict=True)
        ]
        return "\n".join([head, rule, *rows])


def swap_matrix(
    measure: Callable[[Int64[np.ndarray, "item group code"]], Float64[np.ndarray, "item attribute"]],
    codes: Int64[np.ndarray, "item group code"],
    *,
    groups: tuple[str, ...],
    attributes: tuple[str, ...],
    seed: int = 0,
) -> SwapMatrix:
    """What swapping each group of `codes` with another item's does to the attributes that `measure` reads after decoding.

    Each entry is the slope, over random pairs, of an attribute's change on the difference between the two items.
    """
    if len(codes) < 2 or codes.shape[1] != len(groups):
        raise UsageError(f"swapping needs two items or more with {len(groups)} groups, got {codes.shape}")
    rng = np.random.default_rng(seed)
    other = codes[(np.arange(len(codes)) + rng.integers(1, len(codes))) % len(codes)]
    before, there = measure(codes), measure(other)
    wanted = there - before
    scale = np.maximum((wanted**2).sum(axis=0), 1e-12)
    moved = np.zeros((len(groups), before.shape[1]))
    for row in range(len(groups)):
        swapped = codes.copy()
        swapped[:, row] = other[:, row]
        moved[row] = ((measure(swapped) - before) * wanted).sum(axis=0) / scale
    return SwapMatrix(groups=groups, attributes=attributes, moved=moved)


def _check(latents: np.ndarray, factors: np.ndarray) -> None:
    if len(latents) != len(factors) or len(latents) < 2:
        raise UsageError(
            f"latents and factors need the same two or more samples, got {len(latents)}, {len(factors)}"
        )


def _binned(values: np.ndarray, bins: int) -> Int64[np.ndarray, "sample"]:
    distinct, inverse = np.unique(values, return_inverse=True)
    if len(distinct) <= bins:
        return inverse.astype(np.int64)
    span = (values - values.min()) / (values.max() - values.min())
    return np.minimum((span * bins).astype(np.int64), bins - 1)


def _entropy(codes: Int64[np.ndarray, "sample"]) -> float:
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(-(share * np.log(share)).sum())


def _standard(values: np.ndarray, count: int) -> Float64[np.ndarray, "sample column"]:
    mean, spread = values[:count].mean(axis=0), values[:count].std(axis=0)
    return (values - mean) / np.where(spread > 1e-9, spread, 1.0)


def _correlation(latents: np.ndarray, factors: np.ndarray) -> Float64[np.ndarray, "latent factor"]:
    return _standard(latents, len(latents)).T @ _standard(factors, len(factors)) / len(latents)


def _lasso(
    x: Float64[np.ndarray, "sample latent"], y: Float64[np.ndarray, "sample"], strength: float
) -> Float64[np.ndarray, "latent"]:
    """Weights that minimise half the mean squared error plus `strength` times their size, by coordinate descent."""
    gram, target = x.T @ x / len(x), x.T @ y / len(x)
    weights = np.zeros(x.shape[1])
    for _ in range(500):
        before = weights.copy()
        for axis in range(len(weights)):
            pull = target[axis] - gram[axis] @ weights + gram[axis, axis] * weights[axis]
            curvature = max(gram[axis, axis], 1e-12)
            weights[axis] = np.sign(pull) * max(abs(pull) - strength, 0.0) / curvature
        if np.abs(weights - before).max() < 1e-6:
            break
    return weights


def _one_less_entropy(importance: Float64[np.ndarray, "row column"]) -> Float64[np.ndarray, "row"]:
    """1 less the entropy of each row, counted in the logarithm of the row's length."""
    if importance.shape[1] < 2:
        return np.ones(len(importance))
    share = importance / np.maximum(importance.sum(axis=1, keepdims=True), 1e-12)
    return 1.0 + (share * np.log(np.maximum(share, 1e-12))).sum(axis=1) / np.log(importance.shape[1])
