"""Which weight files exist, where they come from, what their licences allow, and who uses them.

The entries live in registry.json: adding a weight means adding an entry there (`affetto.weights.store.register`).
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from affetto.runtime.errors import UsageError

MAX_EMBEDDED_BYTES = 16 * 2**20
"""No single embedded file may be larger, so that the package stays light."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One weight file: `sha256` is empty and `size` 0 until its bytes are known and pinned."""

    id: str
    file: str  # name inside the package's embedded folder or the user's cache
    source: str
    licence: str
    commercial: bool  # whether the licence allows commercial use
    sha256: str
    consumer: str  # the class that loads it
    embedded: bool
    size: int  # bytes

    def __post_init__(self) -> None:
        if not self.file.endswith(".safetensors") or "/" in self.file or "\\" in self.file:
            raise UsageError(
                f"weights {self.id!r}: file must be a plain *.safetensors name, got {self.file!r}"
            )
        if self.embedded and (len(self.sha256) != 64 or not 0 < self.size <= MAX_EMBEDDED_BYTES):
            raise UsageError(
                f"weights {self.id!r}: an embedded file needs a sha256 and 1..{MAX_EMBEDDED_BYTES} bytes"
            )
        if self.embedded and not self.commercial:
            raise UsageError(f"weights {self.id!r}: a file without commercial use may not be embedded")


def parse_registry(text: str) -> dict[str, WeightFile]:
    """The entries of a registry.json by id; raises `UsageError` on a duplicate or an entry that breaks the rules."""
    entries = [WeightFile(**entry) for entry in json.loads(text)]
    by_id = {entry.id: entry for entry in entries}
    if len(by_id) != len(entries):
        raise UsageError("registry.json names an id twice")
    return by_id


def registry_text(entries: Mapping[str, WeightFile]) -> str:
    """The JSON text of a registry, embedded entries first, then by id."""
    ordered = sorted(entries.values(), key=lambda entry: (not entry.embedded, entry.id))
    return json.dumps([dataclasses.asdict(entry) for entry in ordered], indent=2, ensure_ascii=False) + "\n"


_entries = parse_registry(
    resources.files("affetto.weights").joinpath("registry.json").read_text(encoding="utf-8")
)

REGISTRY: Mapping[str, WeightFile] = MappingProxyType(_entries)
"""Every known weight file by id."""


def replace_entry(entry: WeightFile) -> None:
    """Put `entry` into this process's registry, in place of one with the same id."""
    _entries[entry.id] = entry


def get(weight_id: str) -> WeightFile:
    """The entry of `weight_id`; raises `UsageError` with the nearest known ids."""
    if weight_id in REGISTRY:
        return REGISTRY[weight_id]
    near = difflib.get_close_matches(weight_id, REGISTRY, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(REGISTRY))}"
    raise UsageError(f"no weights named {weight_id!r}: {hint}")
