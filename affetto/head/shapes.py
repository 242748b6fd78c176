"""The 52 expressions, their correctives and the identity modes, on our own vertices."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from affetto.head.assemble import Assembly
from affetto.head.parts import TOOTH_VERTICES
from affetto.head.reference import EYE_CENTRE, Reference
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX

IDENTITY_MODES = 48
LID_OVERLAP = 0.03


@dataclass(frozen=True, kw_only=True)
class Corrective:
    """A field that is added with the product of two weights."""

    first: str
    second: str
    field: Float[np.ndarray, "v 3"]


def mirrored_name(name: str) -> str:
    """The blend shape that is the mirror image of `name`."""
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


def expression_fields(assembly: Assembly, reference: Reference) -> dict[str, Float[np.ndarray, "v 3"]]:
    """Displacements of our vertices at weight 1 of every ARKit shape, in reference units."""
    fields = {}
    start, stop = assembly.ranges["eyes"]
    for name, left in reference.expressions.items():
        field = assembly.carry(left, reference.expressions[mirrored_name(name)])
        field[start:stop] = 0  # eyeballs turn; they never deform
        fields[name] = field
    seal = lid_seal(assembly, fields["eyeBlinkLeft"])
    for side in ("Left", "Right"):
        sealed = _sealed(assembly, fields[f"eyeBlink{side}"], seal, side)
        fields[f"eyeBlink{side}"] = sealed + _lash_fall(assembly, side)
    fields["tongueOut"] = _tongue_out(assembly, fields)
    upper = upper_jaw(assembly)
    for name in fields:
        fields[name][upper] = 0  # the upper teeth are bone
    return {name: fields[name] for name in ARKIT_52}


def upper_jaw(assembly: Assembly) -> np.ndarray:
    """Indices of the vertices of the upper teeth and gum."""
    low, high = assembly.ranges["teeth"][0], assembly.ranges["gums"][1]
    index = np.arange(low, high)
    still = np.zeros(len(index), bool)
    per = (assembly.ranges["teeth"][1] - low) // 2
    tooth = TOOTH_VERTICES
    for i in range(0, 2 * per, tooth):
        still[i : i + tooth] = assembly.positions[low + i : low + i + tooth, 1].mean() > -3.2
    gums = index[2 * per :]
    still[2 * per :] = assembly.positions[gums, 1] > -3.3
    return index[still]


@dataclass(frozen=True, kw_only=True)
class LidSeal:
    """How much further the left upper lid must sink, at columns across the eye, to close the last slit of a blink."""

    columns: Float[np.ndarray, "c"]
    slit: Float[np.ndarray, "c"]

    def field(
        self, rest: Float[np.ndarray, "k 3"], shut: Float[np.ndarray, "k 3"]
    ) -> Float[np.ndarray, "k 3"]:
        """The displacement of points of the left upper lid that lie at `rest` and, in the unsealed blink, at `shut`."""
        near = np.clip((2.3 - np.linalg.norm(rest - EYE_CENTRE, axis=1)) / 0.5, 0, 1)
        above = rest[:, 1] > _canthus_line(rest[:, 0])
        fall = np.interp(shut[:, 0], self.columns, self.slit) * near * above
        return np.stack([0 * fall, -fall, 0.25 * fall], axis=1)


def lid_seal(assembly: Assembly, blink: Float[np.ndarray, "v 3"]) -> LidSeal:
    """The seal that the left blink needs on our lids' edges."""
    edge = assembly.lid_edges[0]
    rest, shut = assembly.positions[edge], assembly.positions[edge] + blink[edge]
    upper = rest[:, 1] > _canthus_line(rest[:, 0])
    columns = np.linspace(2.25, 4.3, 15)
    slit = []
    for x in columns:
        near = np.abs(shut[:, 0] - x) < 0.2
        closed = not (near & upper).any() or not (near & ~upper).any()
        slit.append(
            0.0 if closed else shut[near & upper, 1].max() - shut[near & ~upper, 1].min() + LID_OVERLAP
        )
    smooth = np.clip(np.convolve(np.pad(slit, 1, mode="edge"), [0.25, 0.5, 0.25], "valid"), 0, 0.25)
    return LidSeal(columns=np.concatenate([[2.05], columns, [4.5]]), slit=np.concatenate([[0], smooth, [0]]))


def _canthus_line(x: np.ndarray) -> np.ndarray:
    return np.interp(x, [2.05, 4.45], [3.12, 3.42])


def _sealed(assembly: Assembly, blink: np.ndarray, seal: LidSeal, side: str) -> np.ndarray:
    flip = np.array([1 if side == "Left" else -1, 1, 1])
    rest = assembly.positions * flip
    extra = seal.field(rest, rest + blink * flip) * flip
    start, stop = assembly.ranges["eyes"]
    extra[start:stop] = 0
    return blink + extra


def _lash_fall(assembly: Assembly, side: str) -> np.ndarray:
    """On a closed lid the lashes point down and forward."""
    field = np.zeros_like(assembly.positions)
    start, stop = assembly.ranges["lashes"]
    half = (stop - start) // 2
    first = start if side == "Left" else start + half
    count = half // 3
    for row, (fall, out) in enumerate(((0, 0), (-0.16, 0.03), (-0.42, 0.02))):
        index = np.arange(first + row * count, first + (row + 1) * count)
        length = np.linalg.norm(assembly.positions[index] - assembly.positions[index - row * count], axis=1)
        scale = length / max(length.max(), 1e-6) if row else 0 * length
        field[index, 1] += fall * scale
        field[index, 2] += out * scale
    return field


def _tongue_out(assembly: Assembly, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Our own shape: the tongue slides over the lower teeth, the lips part for it."""
    field = 0.26 * fields["jawOpen"] + 0.35 * (fields["mouthLowerDownLeft"] + fields["mouthLowerDownRight"])
    along = assembly.tongue_along
    reach = np.clip((along - 0.15) / 0.85, 0, 1) ** 1.3
    start, stop = assembly.ranges["tongue"]
    slide = np.zeros_like(field)
    slide[start:stop, 2] = 3.1 * reach[start:stop]
    slide[start:stop, 1] = (
        0.30 * np.sin(np.pi * np.clip(reach[start:stop], 0, 1)) - 0.10 * reach[start:stop] ** 4
    )
    middle = assembly.positions[start:stop, 1].mean()
    slide[start:stop, 1] += -0.30 * reach[start:stop] * (assembly.positions[start:stop, 1] - middle) * 0.6
    slide[start:stop, 0] = -0.12 * reach[start:stop] * assembly.positions[start:stop, 0]
    return field + slide


def correctives(assembly: Assembly, fields: Mapping[str, np.ndarray]) -> list[Corrective]:
    """Pairs whose plain sum looks wrong: lids that would over-close, mouth corners stretched twice."""
    found = []
    for side in ("Left", "Right"):
        lid = _lid_weight(assembly, side)[:, None]
        blink = f"eyeBlink{side}"
        for other in ("LookDown", "LookUp", "LookIn", "LookOut", "Wide", "Squint"):
            name = f"eye{other}{side}"
            found.append(Corrective(first=blink, second=name, field=-fields[name] * lid))
        found.append(
            Corrective(
                first=blink, second=f"cheekSquint{side}", field=-0.9 * fields[f"cheekSquint{side}"] * lid
            )
        )
    mouth = _mouth_weight(assembly)[:, None]
    for side in ("Left", "Right"):
        smile = f"mouthSmile{side}"
        found.append(Corrective(first="jawOpen", second=smile, field=-0.18 * fields[smile] * mouth))
    found.append(
        Corrective(first="jawOpen", second="mouthPucker", field=-0.25 * fields["mouthPucker"] * mouth)
    )
    return found


def _lid_weight(assembly: Assembly, side: str) -> np.ndarray:
    centre = EYE_CENTRE * ([1, 1, 1] if side == "Left" else [-1, 1, 1])
    distance = np.linalg.norm(assembly.positions - centre, axis=1)
    return np.clip((2.15 - distance) / 0.45, 0, 1)


def _mouth_weight(assembly: Assembly) -> np.ndarray:
    distance = np.linalg.norm((assembly.positions - [0, -3.4, 10.6]) * [0.8, 1, 0.8], axis=1)
    return np.clip((4.0 - distance) / 2.0, 0, 1)


def identity_modes(
    assembly: Assembly, reference: Reference, count: int = IDENTITY_MODES
) -> Float[np.ndarray, "i v 3"]:
    """Orthogonal symmetric identity displacements at one standard deviation, strongest first, in reference units."""
    modes = []
    for field in reference.identities.astype(np.float64):
        carried = assembly.carry(field, field)
        carried -= carried[assembly.ranges["eyes"][0] : assembly.ranges["eyes"][1]].mean(axis=0) * [0, 1, 1]
        modes.append(carried)
    flat = np.stack(modes).reshape(len(modes), -1)
    left, strength, right = np.linalg.svd(flat, full_matrices=False)
    assert left.shape[0] == len(modes)
    basis = right[:count] * strength[:count, None]
    return basis.reshape(count, -1, 3)


def pair_index(corrective: Corrective) -> tuple[int, int]:
    """Where the two weights of a corrective stand in ARKIT_52."""
    return ARKIT_INDEX[corrective.first], ARKIT_INDEX[corrective.second]
