"""Whose voice or face it is, and on what ground it may be used: stated once for each recording or portrait, and remembered."""

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affetto.runtime.errors import InvalidInputError, PolicyError, UsageError
from affetto.runtime.files import atomic_path
from affetto.weights.store import sha256_of

GROUNDS: Mapping[str, str] = {
    "self": "it is I",
    "licensed": "the person agreed, in writing",
    "synthetic": "no such person exists",
    "public-domain": "it may be used by anyone, and no living person is misled",
}


@dataclass(frozen=True, kw_only=True)
class Consent:
    """The ground on which someone's voice or face is used, when that was stated, and a note such as a contract's number."""

    ground: str
    note: str = ""
    stated: str = ""

    def __post_init__(self) -> None:
        if self.ground not in GROUNDS:
            raise UsageError(f"consent {self.ground!r}: use {', '.join(GROUNDS)}")

    @classmethod
    def now(cls, ground: str, note: str = "") -> "Consent":
        """A consent stated today."""
        return cls(ground=ground, note=note, stated=datetime.datetime.now(datetime.UTC).date().isoformat())


class ConsentBook:
    """The consents of this user, by the content of the recording or portrait; a JSON file in the user's configuration."""

    def __init__(self, path: Path | None = None) -> None:
        from affetto.provenance.certificates import config_folder

        self.path = path or config_folder().parent / "consents.json"

    def of(self, media: Path) -> Consent | None:
        """What was stated for a file with this content."""
        entry = self._entries().get(sha256_of(media))
        return (
            None if entry is None else Consent(**{name: entry[name] for name in ("ground", "note", "stated")})
        )

    def state(self, media: Path, consent: Consent) -> None:
        """Remember a consent for a file, whatever it comes to be called."""
        entries = self._entries() | {sha256_of(media): asdict(consent) | {"name": media.name}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _entries(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{self.path}: cannot be read ({error}): mend or remove it") from error
        if not isinstance(entries, dict):
            raise InvalidInputError(f"{self.path}: is no book of consents: mend or remove it")
        return entries


def consent_required() -> bool:
    """Whether this installation refuses real voices and faces without consent (`AFFETTO_CONSENT=required`)."""
    wish = os.environ.get("AFFETTO_CONSENT", "asked").lower()
    if wish not in ("asked", "required"):
        raise UsageError(f"AFFETTO_CONSENT={wish}: use asked or required")
    return wish == "required"


def settle_consent(
    media: Path, stated: str | None, *, what: str, book: ConsentBook | None = None
) -> Consent | None:
    """The consent for a recording or portrait: as `stated` now (and remembered), else as stated before, else None.

    `stated` is a ground, optionally followed by a colon and a note. Raises PolicyError where consent is required and
    there is none.
    """
    book = book or ConsentBook()
    if stated is not None:
        ground, _, note = stated.partition(":")
        consent = Consent.now(ground.strip(), note.strip())
        book.state(media, consent)
        return consent
    consent = book.of(media)
    if consent is None and consent_required():
        raise PolicyError(
            f"{media}: nobody has stated whose {what} this is: add --consent {'|'.join(GROUNDS)} (remembered for this file)"
        )
    return consent
