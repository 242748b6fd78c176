"""MusER's weight files: what they hold, and how the authors' checkpoints become such files.

The network and the prior are two files. Published checkpoints, the dictionary of words and the list of used codes are
read without running anything in them, once, by `affetto weights convert` or `pull`.
"""

import dataclasses
import functools
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from affetto.generators.music.full.muser import VARIANTS, Muser, MuserConfig, MuserPrior
from affetto.media.files import checked_size
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.compound import Words
from affetto.tokenizers.muser_words import MUSER, MuserTables
from affetto.weights.store import check_safetensors, read_arrays, save_tensors
from affetto.weights.tensors import check_layout

NETWORK_ID, PRIOR_ID = "muser", "muser-prior"
NETWORK_FORMAT, PRIOR_FORMAT = "muser-1", "muser-prior-1"
TRAINING_ONLY = ("DR.", "VQ_pos_embedd.")
"""What a file may hold or lack beside the network itself: the regulariser, and position tables, which are computed."""

Converted = tuple[dict[str, Tensor], dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class MuserIds:
    """Which word ids a network was trained on: ours, in musical order, or those of published tables."""

    tables: MuserTables | None = None

    @functools.cached_property
    def _theirs(self) -> tuple[np.ndarray, ...]:
        if self.tables is None:
            return tuple(np.arange(size) for size in MUSER.sizes)
        return self.tables.theirs

    def network_id(self, column: int, ours: int) -> int:
        """The network's id of one of ours."""
        return int(self._theirs[column][ours])

    def ours(self, column: int) -> Int64[np.ndarray, "id"]:
        """Our id of each of the network's."""
        if self.tables is None:
            return np.arange(MUSER.sizes[column])
        return self.tables.ours[column]

    def to_network(self, words: Words) -> Int64[np.ndarray, "word 8"]:
        """The network's ids of words in the `MUSER` vocabulary."""
        return words.ids.astype(np.int64) if self.tables is None else self.tables.to_muser(words)

    def from_network(self, ids: Int64[np.ndarray, "word 8"]) -> Words:
        """The words behind the network's ids."""
        if self.tables is None:
            return Words(ids=ids.astype(np.int16), vocabulary=MUSER)
        return self.tables.from_muser(ids)

    def to_json(self) -> str:
        """`null` for ours, else the names in the order of their ids."""
        return json.dumps(None if self.tables is None else self.tables.names)

    @classmethod
    def from_json(cls, text: str) -> "MuserIds":
        """What `to_json` wrote."""
        names = json.loads(text)
        return cls(tables=None if names is None else MuserTables(names=tuple(tuple(each) for each in names)))

    @classmethod
    def of_order(cls, order: str) -> "MuserIds":
        """The ids of a recipe: `numeric` (ours) or `lexicographic` (the published order)."""
        return cls(tables=None if order == "numeric" else MuserTables.rebuilt())


@dataclass(frozen=True, kw_only=True, eq=False)
class MuserWeights:
    """A network for making music with, the ids it speaks, and its prior with the codes this knows."""

    network: Muser
    ids: MuserIds
    prior: MuserPrior | None = None
    compact: Int64[np.ndarray, "code"] | None = None  # the codebook's index of each of the prior's codes
    about: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write the network to `path` and the prior beside it (see `prior_path`)."""
        path = Path(path)
        about = json.dumps(self.about, sort_keys=True)
        if self.prior is not None and self.compact is not None:
            save_tensors(
                prior_path(path),
                _own(self.prior.state_dict()),
                {
                    "format": PRIOR_FORMAT, "compact": json.dumps(self.compact.tolist()), "about": about,
                    "shape": json.dumps(_prior_shape(self.prior)),
                },
            )  # fmt: skip
        metadata = {
            "format": NETWORK_FORMAT, "config": self.network.config.to_json(), "ids": self.ids.to_json(),
            "about": about,
        }  # fmt: skip
        return save_tensors(path, _own(self.network.state_dict()), metadata)

    @classmethod
    def load(cls, path: str | Path) -> "MuserWeights":
        """Read the network in `path`, without its prior; raises InvalidInputError for other files."""
        tensors, metadata = _read(Path(path), NETWORK_FORMAT)
        try:
            config, ids = MuserConfig.from_json(metadata["config"]), MuserIds.from_json(metadata["ids"])
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidInputError(f"{path}: the MusER weights are incomplete ({error})") from error
        network = Muser(config, regulariser=False)
        _fill(network, tensors, "MusER at these sizes")
        if config.latent == "codes":
            network.VQ.settle()
        return cls(network=network.eval(), ids=ids, about=json.loads(metadata.get("about", "{}")))

    @property
    def needs_prior(self) -> bool:
        """Whether pieces are drawn as codes; the Gaussian variant needs no prior."""
        return self.network.config.latent == "codes"

    def with_prior(self, path: str | Path) -> "MuserWeights":
        """The same network with the prior in `path`; raises InvalidInputError for the prior of another."""
        tensors, metadata = _read(Path(path), PRIOR_FORMAT)
        try:
            codes = np.array(json.loads(metadata["compact"]), np.int64)
            prior = MuserPrior(len(codes), **json.loads(metadata["shape"]))
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidInputError(f"{path}: the prior is incomplete ({error})") from error
        if not 0 <= codes.min() <= codes.max() < self.network.config.codes:
            raise InvalidInputError(
                f"{path}: speaks of codes that the network does not have: give its own prior"
            )
        _fill(prior, tensors, "MusER's prior")
        return dataclasses.replace(self, prior=prior.eval(), compact=codes)


def prior_path(path: Path) -> Path:
    """Where the prior of the network in `path` lies: `NAME-prior.safetensors`."""
    return path.with_name(f"{path.stem}-prior.safetensors")


def convert_muser(tensors: Mapping[str, Tensor], source: Path) -> Converted:
    """Ours from a published checkpoint of any variant, or a file of the recipe as it is.

    A `dictionary.pkl` beside the checkpoint tells its word ids; without one they are rebuilt by their rule.
    """
    if (own := _already(source, NETWORK_FORMAT)) is not None:
        return own
    variant = _variant_of(tensors)
    _check(tensors, _layout(variant), variant)
    book = source.with_name("dictionary.pkl")
    tables = MuserTables.load(book) if book.is_file() else MuserTables.rebuilt()
    return _own(tensors), {
        "format": NETWORK_FORMAT,
        "config": VARIANTS[variant].to_json(),
        "ids": MuserIds(tables=tables).to_json(),
        "about": json.dumps({"variant": variant, "ids": book.name if book.is_file() else "rebuilt"}),
    }


def convert_muser_prior(tensors: Mapping[str, Tensor], source: Path) -> Converted:
    """Ours from a published prior, whose codes are told by the file that ends in `VQ_dict.data` beside it."""
    if (own := _already(source, PRIOR_FORMAT)) is not None:
        return own
    head = tensors.get("predict_fc.bias")
    codes = 0 if head is None else len(head)
    with torch.device("meta"):
        prior = MuserPrior(max(codes, 1))
    _check(tensors, prior.state_dict(), "MusER's prior")
    books = sorted(source.parent.glob("*VQ_dict.data"))
    if len(books) == 1:
        compact = read_used_codes(books[0])
    elif not books and codes == MuserConfig().codes:
        compact = list(range(codes))
    else:
        raise InvalidInputError(
            f"{source}: put the VQ_dict.data of this prior beside it ({len(books)} found): it names the codes"
        )
    if len(compact) != codes:
        raise InvalidInputError(
            f"{books[0]}: names {len(compact)} codes, the prior has {codes}: give its own"
        )
    metadata = {
        "format": PRIOR_FORMAT,
        "compact": json.dumps(compact),
        "shape": json.dumps(_prior_shape(prior)),
    }
    return _own(tensors), metadata


def read_used_codes(path: Path) -> list[int]:
    """The codebook's index of each code of a prior, from a published `VQ_dict.data`; raises InvalidInputError."""
    checked_size(path, 2**20, kind="list of codes")
    try:
        with path.open("rb") as file:
            held = _NumbersUnpickler(file).load()
        return [int(held[1][index]) for index in range(len(held[1]))]
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
    ) as error:
        raise InvalidInputError(
            f"{path}: is no list of used codes ({error}): name MusER's VQ_dict.data"
        ) from error


class _NumbersUnpickler(pickle.Unpickler):
    """Reads dictionaries of numbers, numpy's included; anything else with code behind it is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return _number
        if (module, name) == ("numpy", "dtype"):
            return _number_type
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


class _NumberType:
    """The type of a pickled numpy integer; its state (byte order) is little-endian in every file there is."""

    def __init__(self, name: str) -> None:
        self.type = np.dtype(name).newbyteorder("<")
        if self.type.kind not in "iu":
            raise pickle.UnpicklingError(f"it holds numbers of type {name}")

    def __setstate__(self, state: object) -> None:
        """Nothing beside the byte order is told."""


def _number_type(name: str, *_: object) -> _NumberType:
    return _NumberType(name)


def _number(kind: _NumberType, raw: bytes) -> int:
    return int(np.frombuffer(raw, kind.type)[0])


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a file keeps, as float32."""
    return {key: value.detach().float().contiguous() for key, value in tensors.items() if not _allowed(key)}


def _allowed(key: str) -> bool:
    return key.startswith(TRAINING_ONLY) or key.endswith(".pe")


def _prior_shape(prior: MuserPrior) -> dict[str, int]:
    layer = prior.transformer_encoder
    return {
        "width": prior.predict_fc.in_features,
        "layers": len(layer.layers),
        "heads": layer.heads,
    }


def _variant_of(tensors: Mapping[str, Tensor]) -> str:
    """The published variant that names like these belong to; without its regulariser the one that has none."""
    modules = {key.partition(".")[0] for key in tensors}
    reads = {"decoder_cross_linear": "attend", "decoder_linear": "concat"}
    heads = {"type_decoder": "elements", "subDecoder_linear": "slices"}
    shape = (
        next((kind for name, kind in reads.items() if name in modules), "alone"),
        next((kind for name, kind in heads.items() if name in modules), "joint"),
        "gauss" if "mean_linear" in modules else "codes",
        "input" if "decoder_linear_emo" in modules else "target",
    )
    fitting = {
        config.regulariser: name
        for name, config in VARIANTS.items()
        if (config.reads, config.heads, config.latent, config.encodes) == shape
    }
    if "DR" in modules or "mean" not in fitting:
        return next(iter(fitting.values()), "MusER_TRANS_CA_GE")
    return fitting["mean"]


@functools.cache
def _layout(variant: str) -> Mapping[str, Tensor]:
    """The entries of a published variant, without memory behind them."""
    with torch.device("meta"):
        return Muser(VARIANTS[variant]).state_dict()


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Names and shapes, strictly but for `TRAINING_ONLY` and position tables, which must be known ones if there."""
    given = {key: tuple(value.shape) for key, value in tensors.items()}
    wanted = {key: tuple(value.shape) for key, value in expected.items()}
    optional = {key for key in wanted if _allowed(key) and key not in given}
    check_layout(given, {key: shape for key, shape in wanted.items() if key not in optional}, what)


def _fill(network: torch.nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    own = network.state_dict()
    _check(tensors, own, what)
    network.load_state_dict({**own, **tensors})


def _read(path: Path, form: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    check_safetensors(path)
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != form:
        raise InvalidInputError(
            f"{path}: holds no {form} weights: write them with affetto train music-muser or weights convert"
        )
    return {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}, metadata


def _already(source: Path, form: str) -> Converted | None:
    """The content of a file that is ours already."""
    with source.open("rb") as file:
        if file.read(9)[8:9] != b"{":
            return None
    _, metadata = read_arrays(source)
    return _read(source, form) if metadata.get("format") == form else None
