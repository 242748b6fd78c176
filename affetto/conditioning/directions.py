"""Directions in a latent space along which an emotion grows: fitted, orthogonalised, calibrated, applied, undone."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from affetto.conditioning.mixtures import GaussianMixture, fit_mixture
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.weights.store import read_arrays, save_tensors

Orthogonalisation = Literal["none", "gram-schmidt", "lowdin"]
Probe = Callable[[Float[Tensor, "item width"]], Float[Tensor, "item direction"]]


@dataclass(frozen=True, kw_only=True)
class LocalMeans:
    """Where the directions differ from place to place: a mixture over neutral latents and one shift for each part.

    The mixture sees only `basis`, the subspace that no shift touches, so that moving a latent never changes which
    parts it belongs to, and a move can be undone.
    """

    basis: Float[Tensor, "free width"]
    mixture: GaussianMixture  # over the free coordinates
    shifts: Float[Tensor, "direction part width"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far to move for an asked intensity, and how linear the measured answer is before and after."""

    intensities: Float[Tensor, "step"]  # 0 .. the largest
    moves: Float[Tensor, "direction step"]  # in units of each direction's scale
    linearity_before: tuple[float, ...] = ()  # R2 of measured against asked
    linearity_after: tuple[float, ...] = ()
    leakage: tuple[float, ...] = ()  # largest change of another probe over that of the own, at intensity 1


@dataclass(frozen=True, kw_only=True)
class DirectionalLatents:
    """Named unit directions of a latent space with the displacement that intensity 1 means.

    Fit with `from_means`, `from_local_means`, `from_vad`, `from_components` or `from_weights`. `apply` with -i undoes
    `apply` with i (unless the norm is preserved). After EmoReg (arXiv 2412.20359), GANSpace and SeFa.
    """

    names: tuple[str, ...]
    directions: Float[Tensor, "direction width"]
    scale: Float[Tensor, "direction"]
    neutral: Float[Tensor, "width"]
    local: LocalMeans | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if len(self.names) != len(self.directions) or len(set(self.names)) != len(self.names):
            raise UsageError(
                f"{len(self.directions)} directions need as many distinct names, got {self.names}"
            )

    @classmethod
    def from_means(
        cls,
        latents: Float[Tensor, "item width"],
        labels: Sequence[str],
        *,
        neutral: str = "neutral",
        whiten: bool = False,
        keep: float = 1.0,
    ) -> "DirectionalLatents":
        """One direction for each label other than `neutral`: from the mean of neutral to the label's mean.

        `keep` below 1 takes noise out (EmoReg): only what lies in the principal axes that hold this share of all
        variance is moved. `whiten` measures by the spread within the classes (Fisher's discriminant): directions then
        prefer axes on which the classes are tight, and move only as far along them as the means lie apart.
        """
        x, groups = _grouped(latents, labels, neutral)
        centre = x[groups[neutral]].mean(0)
        names = tuple(name for name in groups if name != neutral)
        shifts = _denoised(torch.stack([x[groups[name]].mean(0) - centre for name in names]), x, keep)
        if not whiten:
            return cls._from_shifts(names, shifts, centre)
        residual = torch.cat([x[rows] - x[rows].mean(0) for rows in groups.values()])
        cov = residual.T @ residual / max(len(x) - len(groups), 1)
        ridge = 1e-3 * cov.diagonal().mean().clamp_min(1e-12) * torch.eye(len(cov), dtype=cov.dtype)
        normals = torch.linalg.solve(cov + ridge, shifts.T).T
        units = normals / normals.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        scale = (units * shifts).sum(-1)
        return cls(names=names, directions=units.float(), scale=scale.float(), neutral=centre.float())

    @classmethod
    def from_local_means(
        cls,
        latents: Float[Tensor, "item width"],
        labels: Sequence[str],
        *,
        neutral: str = "neutral",
        parts: int = 4,
        seed: int = 0,
        keep: float = 1.0,
    ) -> "DirectionalLatents":
        """Directions that keep a speaker's place: Gaussian mixtures model each label's local means (EmoReg).

        Each part of the neutral mixture moves toward the label's means, weighted by how near they lie once the global
        shift is taken off; a latent moves by the shifts of the parts it belongs to. `keep` as in `from_means`.
        """
        x, groups = _grouped(latents, labels, neutral)
        plain = cls.from_means(latents, labels, neutral=neutral)
        source = fit_mixture(x[groups[neutral]], parts, seed=seed)
        shifts = []
        for name in plain.names:
            target = fit_mixture(x[groups[name]], parts, seed=seed)
            offset = target.mean - (plain.displacement(name)).to(target.mean)
            distance = torch.cdist(source.mean, offset).square()
            nearness = (-distance / source.variance.sum(-1).mean().clamp_min(1e-12) * 2.0).softmax(-1)
            shifts.append(
                (nearness * target.weight).div((nearness * target.weight).sum(-1, keepdim=True)) @ target.mean
            )
        moves = _denoised(torch.stack(shifts) - source.mean, x, keep)
        basis = _complement(rearrange(moves, "k part width -> (k part) width"))
        free = x[groups[neutral]] @ basis.T
        mixture = GaussianMixture(
            weight=source.weight.float(),
            mean=(source.mean @ basis.T).float(),
            variance=(torch.einsum("fw,pw->pf", basis.square(), source.variance) + 1e-6 * free.var()).float()
            if len(basis)
            else torch.ones(len(source.mean), 0),
        )
        local = LocalMeans(basis=basis.float(), mixture=mixture, shifts=moves.float())
        average = torch.einsum("p,kpw->kw", source.weight, moves)
        return dataclasses.replace(
            cls._from_shifts(plain.names, average, plain.neutral.double()), local=local
        )

    @classmethod
    def from_vad(
        cls, latents: Float[Tensor, "item width"], vad: Float[Tensor, "item 3"], *, ridge: float = 1.0
    ) -> "DirectionalLatents":
        """Three directions: how the latent changes with valence, arousal and dominance (ridge regression of it on VAD).

        Intensity 1 moves by one unit of the axis; `ridge` is in items.
        """
        x, y = latents.double(), vad.double()
        x_mean, y_mean = x.mean(0), y.mean(0)
        centred = y - y_mean
        gram = centred.T @ centred + ridge * centred.var(0).mean().clamp_min(1e-12) * torch.eye(
            3, dtype=y.dtype
        )
        slopes = torch.linalg.solve(gram, centred.T @ (x - x_mean))
        return cls._from_shifts(("valence", "arousal", "dominance"), slopes, x_mean - y_mean @ slopes)

    @classmethod
    def from_components(cls, latents: Float[Tensor, "item width"], count: int) -> "DirectionalLatents":
        """The `count` principal axes of the latents (GANSpace), intensity 1 being one standard deviation.

        Each axis points to where its largest coordinate is positive.
        """
        if not 1 <= count <= min(latents.shape):
            raise UsageError(
                f"{tuple(latents.shape)} latents have up to {min(latents.shape)} components, not {count}"
            )
        x = latents.double()
        centred = x - x.mean(0)
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        spread = values[:count] / max(len(x) - 1, 1) ** 0.5
        names = tuple(f"component{index + 1}" for index in range(count))
        return cls._from_shifts(names, _signed(axes[:count]) * spread[:, None], x.mean(0))

    @classmethod
    def from_weights(cls, weight: Float[Tensor, "out width"], count: int) -> "DirectionalLatents":
        """The `count` directions that a generator's first affine layer magnifies most (SeFa, arXiv 2007.06600).

        The eigenvectors of W'W with the largest eigenvalues; no data needed. Scale and neutral suit standard-normal
        latents.
        """
        if not 1 <= count <= weight.shape[1]:
            raise UsageError(f"a weight of width {weight.shape[1]} has up to as many directions, not {count}")
        _, vectors = torch.linalg.eigh(weight.double().T @ weight.double())
        names = tuple(f"sefa{index + 1}" for index in range(count))
        return cls._from_shifts(names, _signed(vectors.flip(-1).T[:count]), torch.zeros(weight.shape[1]))

    @classmethod
    def _from_shifts(cls, names: tuple[str, ...], shifts: Tensor, neutral: Tensor) -> "DirectionalLatents":
        scale = shifts.norm(dim=-1)
        units = shifts / scale.clamp_min(1e-12)[:, None]
        return cls(names=names, directions=units.float(), scale=scale.float(), neutral=neutral.float())

    def index(self, name: str) -> int:
        """The row of a direction; raises UsageError for an unknown name."""
        if name not in self.names:
            raise UsageError(f"unknown direction {name!r}: there are {', '.join(self.names)}")
        return self.names.index(name)

    def displacement(self, name: str) -> Float[Tensor, "width"]:
        """What intensity 1 of one direction adds, before any calibration."""
        row = self.index(name)
        return self.scale[row] * self.directions[row]

    def apply(
        self,
        latents: Float[Tensor, "*item width"],
        weights: Mapping[str, float] | str,
        intensity: float = 1.0,
        *,
        preserve_norm: bool = False,
    ) -> Float[Tensor, "*item width"]:
        """The latents moved along the named directions by `intensity` times each weight; 0 returns them as they are.

        Negative intensity moves back by exactly as much. `preserve_norm` rescales each latent to the length it had.
        """
        asked = {weights: 1.0} if isinstance(weights, str) else dict(weights)
        amounts = {self.index(name): float(weight) * intensity for name, weight in asked.items()}
        if all(amount == 0.0 for amount in amounts.values()):
            return latents
        x = latents.float()
        moved = x
        share = self._shares(x)
        for row, amount in amounts.items():
            move = self._move(row, amount)
            if share is None or self.local is None:
                moved = moved + move * (self.scale[row] * self.directions[row]).to(x.device)
            else:
                moved = moved + move * (share @ self.local.shifts[row].to(x.device))
        if preserve_norm:
            moved = moved * x.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return moved.to(latents.dtype)

    def _shares(self, x: Float[Tensor, "*item width"]) -> Float[Tensor, "*item part"] | None:
        if self.local is None:
            return None
        return self.local.mixture.responsibilities(x @ self.local.basis.to(x.device).T)

    def _move(self, row: int, amount: float) -> float:
        """The calibrated displacement for an intensity, odd in it; beyond the table it goes on in a straight line."""
        if self.calibration is None:
            return amount
        grid, moves = self.calibration.intensities.numpy(), self.calibration.moves[row].numpy()
        size = abs(amount)
        if size > grid[-1]:
            move = float(moves[-1]) * size / float(grid[-1])
        else:
            move = float(np.interp(size, grid, moves))
        return float(np.copysign(move, amount))

    def project_out(
        self, latents: Float[Tensor, "*item width"], names: Sequence[str] | None = None
    ) -> Float[Tensor, "*item width"]:
        """The latents without their part along the named directions (all by default), seen from neutral."""
        rows = [self.index(name) for name in (self.names if names is None else names)]
        if not rows:
            return latents
        basis, triangular = torch.linalg.qr(self.directions[rows].double().T)
        keep = triangular.diagonal().abs() > 1e-6
        basis = basis[:, keep].float().to(latents.device)
        x = latents.float() - self.neutral.to(latents.device)
        return (latents.float() - (x @ basis) @ basis.T).to(latents.dtype)

    def orthogonalised(
        self, method: Orthogonalisation = "lowdin", *, priority: Sequence[str] | None = None
    ) -> "DirectionalLatents":
        """The same names on perpendicular directions, each scaled to the part of its own displacement that is left.

        `gram-schmidt` keeps the first of `priority` (default: the present order) and takes from each later one what the
        earlier hold; `lowdin` turns all as little as possible, (W W')^-1/2 W. Raises UsageError when the directions are
        linearly dependent. Calibration and local means are dropped: they belong to the old directions.
        """
        if method == "none":
            return self
        units = self.directions.double()
        singular = torch.linalg.svdvals(units)
        if len(units) > units.shape[1] or float(singular[-1]) < 1e-4 * float(singular[0]):
            raise UsageError(
                "these directions depend on each other linearly: leave one out before orthogonalising"
            )
        if method == "lowdin":
            left, _, right = torch.linalg.svd(units, full_matrices=False)
            turned = left @ right
        elif method == "gram-schmidt":
            turned = self._gram_schmidt(units, priority)
        else:
            raise UsageError(f"unknown orthogonalisation {method!r}: use none, gram-schmidt or lowdin")
        scale = self.scale.double() * (turned * units).sum(-1)
        return dataclasses.replace(
            self, directions=turned.float(), scale=scale.float(), calibration=None, local=None
        )

    def _gram_schmidt(self, units: Tensor, priority: Sequence[str] | None) -> Tensor:
        first = [self.index(name) for name in priority or ()]
        order = [*dict.fromkeys(first), *(row for row in range(len(units)) if row not in first)]
        basis, triangular = torch.linalg.qr(units[order].T)
        turned = torch.empty_like(units)
        turned[order] = (basis * triangular.diagonal().sign()).T
        return turned

    def calibrated(
        self,
        latents: Float[Tensor, "item width"],
        probe: Probe,
        *,
        largest: float = 1.5,
        steps: int = 31,
        reach: float = 2.5,
    ) -> "DirectionalLatents":
        """The same directions with a table of moves that makes `probe` answer linearly in the asked intensity.

        `probe` measures each direction's quantity, one column for each name. Along each direction the mean answer over
        `latents` is measured out to `reach` times its scale, made monotone (isotonic fit) and inverted; intensity 1
        still means the answer at one scale. Where the answer saturates, the move stops at `reach`.
        """
        plain = dataclasses.replace(self, calibration=None)
        asked = torch.linspace(0.0, largest, steps)
        ladder = torch.linspace(0.0, reach, 2 * steps)
        moves = torch.empty(len(self.names), steps)
        for row, name in enumerate(self.names):
            answers = _answers(plain, name, latents, probe, ladder)[:, row].numpy().astype(np.float64)
            answer_at_one = float(np.interp(1.0, ladder.numpy(), answers))
            sign = -1.0 if answer_at_one < answers[0] else 1.0
            rising = isotonic(sign * answers) + 1e-9 * np.arange(len(answers))
            start, one = rising[0], float(np.interp(1.0, ladder.numpy(), rising))
            wanted = start + asked.numpy() * (one - start)
            moves[row] = torch.from_numpy(np.interp(wanted, rising, ladder.numpy())).float()
        moves[:, 0] = 0.0
        table = Calibration(intensities=asked, moves=moves)
        fitted = dataclasses.replace(self, calibration=table)
        unit = torch.linspace(0.0, 1.0, 11)
        before, after, leak = [], [], []
        for row, name in enumerate(self.names):
            raw, mended = (_answers(model, name, latents, probe, unit) for model in (plain, fitted))
            before.append(_linearity(unit, raw[:, row]))
            after.append(_linearity(unit, mended[:, row]))
            change = (mended[-1] - mended[0]).abs()
            own = change[row].clamp_min(1e-9)
            change[row] = 0.0
            leak.append(float(change.max() / own))
        report = dataclasses.replace(
            table, linearity_before=tuple(before), linearity_after=tuple(after), leakage=tuple(leak)
        )
        return dataclasses.replace(self, calibration=report)

    def save(self, path: str | Path) -> Path:
        """Write the directions as safetensors (`dirs.W`, `dirs.scale`, `dirs.neutral`, and tables when there are any)."""
        return save_tensors(path, *self.tensors())

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors and the metadata that `load` reads; a file may hold others beside them."""
        tensors = {"dirs.W": self.directions, "dirs.scale": self.scale, "dirs.neutral": self.neutral}
        metadata = {"dirs.names": json.dumps(self.names), "format": "affetto-directions-1"}
        if self.calibration is not None:
            tensors |= {
                "calibration.intensities": self.calibration.intensities,
                "calibration.moves": self.calibration.moves,
            }
            report = {
                key: getattr(self.calibration, key)
                for key in ("linearity_before", "linearity_after", "leakage")
            }
            metadata["calibration"] = json.dumps(report)
        if self.local is not None:
            mixture = self.local.mixture
            tensors |= {"local.basis": self.local.basis, "local.shifts": self.local.shifts}
            tensors |= {
                "local.weight": mixture.weight,
                "local.mean": mixture.mean,
                "local.variance": mixture.variance,
            }
        return tensors, metadata

    @classmethod
    def load(cls, path: str | Path) -> "DirectionalLatents":
        """Read what `save` wrote; raises InvalidInputError for any other file."""
        arrays, metadata = read_arrays(path)
        if metadata.get("format") != "affetto-directions-1":
            raise InvalidInputError(f"{path}: holds no directions: make one with DirectionalLatents.save")
        try:
            tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
            calibration, local = None, None
            if "calibration.moves" in tensors:
                report = {key: tuple(value) for key, value in json.loads(metadata["calibration"]).items()}
                calibration = Calibration(
                    intensities=tensors["calibration.intensities"],
                    moves=tensors["calibration.moves"],
                    **report,
                )
            if "local.shifts" in tensors:
                parts = {key: tensors[f"local.{key}"] for key in ("weight", "mean", "variance")}
                mixture = GaussianMixture(**parts)
                local = LocalMeans(
                    basis=tensors["local.basis"], mixture=mixture, shifts=tensors["local.shifts"]
                )
            return cls(
                names=tuple(json.loads(metadata["dirs.names"])),
                directions=tensors["dirs.W"],
                scale=tensors["dirs.scale"],
                neutral=tensors["dirs.neutral"],
                local=local,
                calibration=calibration,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidInputError(
                f"{path}: directions are incomplete ({error}): save them again"
            ) from error


def principal_axes(latents: Float[Tensor, "item width"], keep: float) -> Float[Tensor, "axis width"]:
    """The fewest principal axes of the latents that hold the share `keep` of their variance, in float64."""
    if not 0 < keep <= 1:
        raise UsageError(f"the share of variance to keep must lie in (0, 1], got {keep:g}")
    x = latents.detach().cpu().double()
    _, values, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    share = values.square().cumsum(0) / values.square().sum().clamp_min(1e-12)
    return axes[: int((share < keep - 1e-9).sum()) + 1]


def _denoised(
    shifts: Float[Tensor, "*shift width"], latents: Tensor, keep: float
) -> Float[Tensor, "*shift width"]:
    if keep >= 1:
        return shifts
    axes = principal_axes(latents, keep)
    return shifts @ axes.T @ axes


def isotonic(values: Float[np.ndarray, "step"]) -> Float[np.ndarray, "step"]:
    """The non-decreasing sequence nearest to `values` in least squares, by pooling adjacent violators."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values:
        means.append(float(value))
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            total = sizes[-2] + sizes[-1]
            means[-2] = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / total
            sizes[-2] = total
            means.pop()
            sizes.pop()
    return np.repeat(np.array(means, np.float64), sizes)


def _answers(
    model: DirectionalLatents, name: str, latents: Tensor, probe: Probe, intensities: Tensor
) -> Float[Tensor, "step direction"]:
    rows = [probe(model.apply(latents, name, float(i))).float().mean(0) for i in intensities]
    return torch.stack(rows).detach().cpu()


def _linearity(asked: Tensor, measured: Tensor) -> float:
    """R2 of the straight line through the measured answers."""
    if float(measured.std()) < 1e-9:
        return 0.0
    return float(torch.corrcoef(torch.stack([asked, measured]))[0, 1] ** 2)


def _grouped(latents: Tensor, labels: Sequence[str], neutral: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The latents in float64 and the rows of each label, labels sorted."""
    if len(labels) != len(latents):
        raise UsageError(f"{len(latents)} latents need as many labels, got {len(labels)}")
    names = sorted(set(labels))
    if neutral not in names or len(names) < 2:
        raise UsageError(
            f"directions need latents of {neutral!r} and of another label, got {', '.join(names)}"
        )
    rows = {name: torch.tensor([i for i, label in enumerate(labels) if label == name]) for name in names}
    return latents.detach().cpu().double(), rows


def _signed(axes: Float[Tensor, "count width"]) -> Float[Tensor, "count width"]:
    largest = axes.gather(-1, axes.abs().argmax(-1, keepdim=True))
    return axes * torch.where(largest < 0, -1.0, 1.0)


def _complement(vectors: Float[Tensor, "count width"]) -> Float[Tensor, "free width"]:
    """An orthonormal basis of what is perpendicular to all the vectors (empty when they span everything)."""
    _, singular, right = torch.linalg.svd(vectors, full_matrices=True)
    rank = int((singular > 1e-6 * singular[0].clamp_min(1e-12)).sum())
    return right[rank:]
