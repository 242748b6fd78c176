"""A hot folder: every recording that arrives becomes a job of a template."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affetto.apps.batch.manifest import explained
from affetto.apps.batch.specs import JOB, JobSpec
from affetto.runtime.errors import InvalidInputError

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
SETTLED_S = 2.0


class HotFolder:
    """Looks at a folder again and again; a file counts as arrived once its size has not changed for two seconds."""

    def __init__(self, folder: Path, template: Mapping[str, Any], *, settled_s: float = SETTLED_S) -> None:
        self._folder = folder
        self._template = dict(template)
        self._settled_s = settled_s
        self._sizes: dict[Path, tuple[int, float]] = {}
        self._taken: set[Path] = set()

    def arrived(self, now: float | None = None) -> Iterator[JobSpec]:
        """The jobs of the files that have arrived since the last look; raises InvalidInputError for a wrong template."""
        now = time.monotonic() if now is None else now
        for path in sorted(self._folder.iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or path in self._taken:
                continue
            size = path.stat().st_size
            known, since = self._sizes.get(path, (-1, now))
            if size != known:
                self._sizes[path] = (size, now)
            elif size > 0 and now - since >= self._settled_s:
                self._taken.add(path)
                yield self._job(path)

    def _job(self, path: Path) -> JobSpec:
        """The template with {stem} replaced and the recording in its place."""
        row = {
            name: value.replace("{stem}", path.stem) if isinstance(value, str) else value
            for name, value in self._template.items()
        } | {"audio": str(path.resolve())}
        try:
            return JOB.validate_python(row)
        except ValidationError as error:
            reasons = "; ".join(explained(error, row))
            raise InvalidInputError(f"{path.name}: the template makes no job of it: {reasons}") from error
