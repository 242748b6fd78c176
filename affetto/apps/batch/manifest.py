"""Reading manifests: JSONL, CSV or YAML in, checked jobs out, with every error and its line.

Manifests come from outside: sizes, rows, YAML aliases and nesting are bounded, and only plain data is read.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from affetto.apps.batch.specs import JOB, KINDS, JobSpec
from affetto.media.cells import text_of
from affetto.runtime.errors import InvalidInputError

MAX_BYTES = 64 << 20
MAX_JOBS = 1_000_000
MAX_ERRORS = 1000
MAX_YAML_NODES = 200_000
MAX_YAML_DEPTH = 12
SUFFIXES = (".jsonl", ".csv", ".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class ManifestError:
    """One thing that is wrong, and the line that says it (0 for the file as a whole)."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The jobs that are sound, with their lines, and all that is wrong with the others."""

    path: Path
    jobs: tuple[tuple[int, JobSpec], ...] = ()
    errors: tuple[ManifestError, ...] = field(default_factory=tuple)

    def checked(self) -> tuple[JobSpec, ...]:
        """The jobs; raises InvalidInputError with the first errors when anything is wrong."""
        if not self.errors:
            return tuple(job for _, job in self.jobs)
        shown = "; ".join(str(error) for error in self.errors[:5])
        more = f"; and {len(self.errors) - 5} more" if len(self.errors) > 5 else ""
        raise InvalidInputError(f"{self.path}: {shown}{more}: `affetto batch plan` lists all")


def read_manifest(path: str | Path) -> Manifest:
    """Every job of a manifest, inputs resolved against its folder.

    What is wrong with single jobs is collected; InvalidInputError is raised when the file itself cannot be read.
    """
    path = Path(path)
    text = _text(path)
    rows = {".jsonl": _jsonl, ".csv": _csv, ".yaml": _yaml, ".yml": _yaml}[path.suffix.lower()](path, text)
    jobs: list[tuple[int, JobSpec]] = []
    errors: list[ManifestError] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        if len(errors) >= MAX_ERRORS:
            told = f"{MAX_ERRORS} errors so far: mend those first, the rest was not read"
            errors.append(ManifestError(line=line, message=told))
            break
        if isinstance(row, ManifestError):
            errors.append(row)
            continue
        try:
            job = JOB.validate_python(_resolved(row, path.parent))
        except ValidationError as error:
            errors += [ManifestError(line=line, message=text) for text in explained(error, row)]
            continue
        for what, name in (("output", job.output), ("id", job.id)):
            first = seen.setdefault((what, name), line) if name is not None else line
            if first != line:
                errors.append(
                    ManifestError(line=line, message=f"{what} {name!r} is already used in line {first}")
                )
        jobs.append((line, job))
        if len(jobs) > MAX_JOBS:
            raise InvalidInputError(f"{path}: more than {MAX_JOBS} jobs: split the manifest")
    if not jobs and not errors:
        errors.append(ManifestError(line=0, message="holds no jobs"))
    return Manifest(path=path, jobs=tuple(jobs), errors=tuple(errors))


def read_template(path: str | Path) -> dict[str, Any]:
    """The `template` of a YAML manifest with its `defaults`: what a hot folder makes of each recording."""
    path = Path(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise InvalidInputError(f"{path}: a folder is watched with a .yaml manifest that has a template")
    document, _ = _plain_yaml(path, _text(path))
    if not isinstance(document, dict) or "template" not in document:
        raise InvalidInputError(
            f"{path}: has no template: write template: with generator, emotion and output: '{{stem}}.csv'"
        )
    return _mapping(path, document.get("defaults"), "defaults") | _mapping(
        path, document["template"], "template"
    )


def _text(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInputError(f"{path}: is no manifest by its name: use {' '.join(SUFFIXES)}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInputError(f"{path}: exceeds {MAX_BYTES >> 20} MiB: split the manifest")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: is not UTF-8 text: save it as UTF-8") from error


Rows = Iterator[tuple[int, Mapping[str, Any] | ManifestError]]


def _jsonl(_path: Path, text: str) -> Rows:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, ManifestError(line=number, message=f"is not JSON ({str(error)[:80]})")
            continue
        yield (
            number,
            row if isinstance(row, dict) else ManifestError(line=number, message="is not a JSON object"),
        )


def _csv(path: Path, text: str) -> Rows:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = reader.fieldnames or []
        known = {name for kind in KINDS.values() for name in kind.model_fields}
        for column in columns:
            if column not in known:
                yield (
                    1,
                    ManifestError(
                        line=1, message=f"no job has a column {column!r}: use {', '.join(sorted(known))}"
                    ),
                )
        for row in reader:
            if None in row or None in row.values():
                yield (
                    reader.line_num,
                    ManifestError(line=reader.line_num, message=f"does not have {len(columns)} cells"),
                )
                continue
            yield (
                reader.line_num,
                {name: _cell(cell) for name, cell in row.items() if cell != "" and name in known},
            )
    except csv.Error as error:
        raise InvalidInputError(
            f"{path}: line {reader.line_num}: is not CSV ({error}): export it again"
        ) from error


def _cell(text: str) -> str | bool:
    """What a cell means; spreadsheets write TRUE and FALSE, and an apostrophe before what looks like a formula."""
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    return text_of(text)


def _yaml(path: Path, text: str) -> Rows:
    """Jobs of a YAML file: `defaults` for all, `jobs`, and a `matrix` of lists whose combinations fill `template`.

    `exclude` drops the combinations that have all of one entry's values; `include` adds single ones.
    """
    document, lines = _plain_yaml(path, text)
    if isinstance(document, list):
        document = {"jobs": document}
    if not isinstance(document, dict):
        raise InvalidInputError(f"{path}: is neither a list of jobs nor a mapping with 'jobs' or 'matrix'")
    unknown = set(document) - {"defaults", "jobs", "matrix", "template", "include", "exclude"}
    if unknown:
        raise InvalidInputError(
            f"{path}: unknown key {min(map(str, unknown))!r}: use defaults, jobs, matrix, template, include, exclude"
        )
    defaults = _mapping(path, document.get("defaults"), "defaults")
    for index, job in enumerate(_listed(path, document.get("jobs"), "jobs")):
        yield lines.get(("jobs", index), 1), _with_defaults(defaults, job, lines.get(("jobs", index), 1))
    template = defaults | _mapping(path, document.get("template"), "template")
    at = lines.get(("matrix",), 1)
    for combination in _combinations(path, document):
        try:
            filled = {name: _filled(value, combination) for name, value in template.items()}
        except (KeyError, IndexError, ValueError) as error:
            yield at, ManifestError(line=at, message=f"template names {error}, which the matrix lacks")
            continue
        yield at, combination | filled


def _combinations(path: Path, document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    axes = {
        name: _listed(path, values, f"matrix.{name}")
        for name, values in _mapping(path, document.get("matrix"), "matrix").items()
    }
    exclude = [
        _mapping(path, entry, "exclude") for entry in _listed(path, document.get("exclude"), "exclude")
    ]
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MAX_JOBS:
        raise InvalidInputError(f"{path}: the matrix has {count} combinations: use at most {MAX_JOBS}")
    if axes:
        for values in product(*axes.values()):
            combination = dict(zip(axes, values, strict=True))
            if not any(entry.items() <= combination.items() for entry in exclude):
                yield combination
    for entry in _listed(path, document.get("include"), "include"):
        yield dict(_mapping(path, entry, "include"))


def _filled(value: Any, combination: Mapping[str, Any]) -> Any:
    """A template's text with {name} replaced by the combination's value, made safe for a file name."""
    if not isinstance(value, str):
        return value
    safe = {
        name: "".join(c if c.isalnum() or c in "-_." else "-" for c in str(part))
        for name, part in combination.items()
    }
    return value.format_map(safe)


def _with_defaults(defaults: Mapping[str, Any], job: Any, line: int) -> Mapping[str, Any] | ManifestError:
    if not isinstance(job, dict):
        return ManifestError(line=line, message="is not a mapping of a job's fields")
    return {**defaults, **job}


def _mapping(path: Path, value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidInputError(
            f"{path}: {where} is not a mapping: write {where}: followed by name: value lines"
        )
    return value


def _listed(path: Path, value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInputError(f"{path}: {where} is not a list")
    return value


def _plain_yaml(path: Path, text: str) -> tuple[Any, dict[tuple[Any, ...], int]]:
    """The document as plain data, and the lines of its jobs; aliases are refused, since they multiply without end."""
    try:
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH:
                raise InvalidInputError(
                    f"{path}: line {event.start_mark.line + 1}: YAML nested too deeply for a manifest"
                )
            if isinstance(event, yaml.AliasEvent):
                raise InvalidInputError(
                    f"{path}: line {event.start_mark.line + 1}: aliases (*{event.anchor}) are not read: use defaults"
                )
            if count > MAX_YAML_NODES:
                raise InvalidInputError(
                    f"{path}: more than {MAX_YAML_NODES} YAML items: use JSONL for so many jobs"
                )
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        reason = getattr(error, "problem", None) or "damaged"
        raise InvalidInputError(f"{path}: {where}is not YAML ({reason})") from error
    lines: dict[tuple[Any, ...], int] = {}
    if isinstance(root, yaml.SequenceNode):
        lines |= {("jobs", index): node.start_mark.line + 1 for index, node in enumerate(root.value)}
    elif isinstance(root, yaml.MappingNode):
        for key, node in root.value:
            lines[(key.value,)] = key.start_mark.line + 1
            if isinstance(node, yaml.SequenceNode):
                lines |= {
                    (key.value, index): each.start_mark.line + 1 for index, each in enumerate(node.value)
                }
    return document, lines


def _resolved(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The row with its input files made absolute; an emotion that names a file beside the manifest too."""
    kind = KINDS.get(str(row.get("generator")))
    files = kind.FILES if kind is not None else ()
    found = dict(row)
    for name in files:
        if isinstance(found.get(name), str):
            found[name] = str((folder / found[name]).resolve())
    emotion = found.get("emotion")
    if (
        isinstance(emotion, str)
        and "\n" not in emotion
        and len(emotion) < 200
        and (folder / emotion).is_file()
    ):
        found["emotion"] = str((folder / emotion).resolve())
    return found


def explained(error: ValidationError, row: Mapping[str, Any]) -> Sequence[str]:
    """Pydantic's findings as sentences in the words of a manifest."""
    lines = []
    for found in error.errors():
        where = ".".join(str(part) for part in found["loc"][1:]) or ".".join(
            str(part) for part in found["loc"]
        )
        if found["type"] == "union_tag_not_found":
            lines.append(f"has no generator: use {', '.join(KINDS)}")
        elif found["type"] == "union_tag_invalid":
            lines.append(f"unknown generator {row.get('generator')!r}: use {', '.join(KINDS)}")
        elif found["type"] == "extra_forbidden":
            lines.append(f"{row.get('generator')} takes no {where!r}")
        elif found["type"] == "missing":
            lines.append(f"{where!r} is missing")
        else:
            lines.append(
                f"{where}: {found['msg'].removeprefix('Value error, ')}, got {str(found['input'])[:60]!r}"
            )
    return lines
