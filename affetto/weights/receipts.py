"""What was pulled from where, and which licences were accepted: small JSON files beside the user's weights."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from affetto.runtime.files import atomic_path
from affetto.weights.registry import WeightFile
from affetto.weights.store import cache_folder, receipt_path

_LICENCES = "licences.json"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Where a weight file came from: its published parts with their hashes, its revision, and what it became."""

    id: str
    source: str
    revision: str
    licence: str
    published: dict[str, str] = field(default_factory=dict)  # name: sha256
    sha256: str = ""
    size: int = 0

    def save(self, entry: WeightFile) -> Path:
        """Write the receipt beside the weights."""
        path = receipt_path(entry)
        with atomic_path(path) as temporary:
            temporary.write_text(
                json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        return path


def is_accepted(entry: WeightFile) -> bool:
    """Whether this licence of this file was accepted before; a changed licence is asked again."""
    return _accepted().get(entry.id) == entry.licence


def accept(entry: WeightFile) -> None:
    """Remember that the licence was accepted."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / _LICENCES) as temporary:
        text = json.dumps({**_accepted(), entry.id: entry.licence}, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _accepted() -> dict[str, str]:
    try:
        held = json.loads((cache_folder() / _LICENCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in held.items()} if isinstance(held, dict) else {}
