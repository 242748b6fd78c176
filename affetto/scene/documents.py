"""YAML and JSON as plain values, with the line of each, and with all that is wrong at once.

A line that YAML cannot read is told and left out with what is indented below it, and the rest is read again; so are values
of kinds that are not read, and names that are given twice.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from affetto.scene.problems import Problem, SceneError, Where

MAX_NODES = 50_000  # values in the document, aliases counted as often as they are used
MAX_DEPTH = 24
_MOST_READINGS = 12  # of a text whose lines are left out one by one
_LARGEST_REREAD = 1 << 16  # characters; a larger text is read once

_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")
)
_OPENED = (
    "while parsing a flow",
    "while scanning a simple key",
    "while scanning a quoted",
    "while scanning an alias",
)
"""Contexts whose beginning is where the mistake is, not where YAML notices it."""

_LEFT_OUT = object()


@dataclass(frozen=True, kw_only=True)
class Document:
    """The values of a document, the line of each by its place, what is wrong, and whether nothing had to be left out."""

    values: Any
    lines: dict[Where, int]
    problems: list[Problem] = field(default_factory=list)
    whole: bool = True


def read_document(text: str, path: Path) -> Document:
    """A YAML or JSON document; raises SceneError when there is nothing to go on with.

    Only plain values are made (no tags of any language); aliases, depth and the number of values are capped.
    """
    if path.suffix.lower() == ".json":
        return _read_json(text, path)
    node, problems = _composed(text, path)
    walker = _Walker(path, problems)
    values = walker.value(node, ()) if node is not None else None
    return Document(
        values=None if values is _LEFT_OUT else values,
        lines=walker.lines,
        problems=walker.all,
        whole=walker.whole and not problems,
    )


def _read_json(text: str, path: Path) -> Document:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise SceneError(path, [Problem(error.lineno, f"not valid JSON ({error.msg})")]) from error
    except RecursionError as error:
        raise SceneError(path, [Problem(1, "nested too deeply: a scene is flat")]) from error
    try:  # YAML, which tells the lines, allows no tabs; JSON has none within strings
        node = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return Document(values=values, lines={})
    walker = _Walker(path, [])
    if node is not None:
        walker.value(node, ())
    return Document(values=values, lines=walker.lines, problems=walker.all)


def _composed(text: str, path: Path) -> tuple[yaml.Node | None, list[Problem]]:
    """The document's nodes without the lines that YAML cannot read, and these lines; SceneError when none is left."""
    lines = text.split("\n")
    problems: list[Problem] = []
    for _ in range(_MOST_READINGS):
        try:
            return yaml.compose("\n".join(lines), Loader=yaml.SafeLoader), problems
        except yaml.YAMLError as error:
            at, what = _culprit(error, "\n".join(lines))
            problems.append(Problem(at + 1, f"not valid YAML ({what})"))
            if len(text) > _LARGEST_REREAD or not _left_out(lines, at):
                break
        except (RecursionError, ValueError) as error:
            problems.append(Problem(1, f"not valid YAML ({type(error).__name__})"))
            break
    raise SceneError(path, problems)


def _culprit(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """The line, from 0, that a mistake stands on, and what YAML says of it."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position), f"the character #x{error.character:04x} is not allowed"
    what = str(getattr(error, "problem", None) or type(error).__name__)
    mark = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None)
    context = str(getattr(error, "context", None) or "")
    if begun is not None and context.startswith(_OPENED):
        mark = begun
    return (mark.line if mark is not None else 0), what


def _left_out(lines: list[str], at: int) -> bool:
    """Empty a line and what is indented below it; whether there was anything."""
    at = min(at, len(lines) - 1)
    if not lines[at].strip():
        return False
    indent = len(lines[at]) - len(lines[at].lstrip(" \t"))
    lines[at] = ""
    for below in range(at + 1, len(lines)):
        if lines[below].strip() and len(lines[below]) - len(lines[below].lstrip(" \t")) <= indent:
            break
        lines[below] = ""
    return True


class _Walker:
    """Makes plain values of YAML nodes, counting as it goes and writing down what it cannot make."""

    def __init__(self, path: Path, before: list[Problem]) -> None:
        self.path = path
        self.lines: dict[Where, int] = {}
        self.told: list[Problem] = []
        self.whole = True
        self._before = before
        self._constructor = yaml.constructor.SafeConstructor()
        self._count = 0

    @property
    def all(self) -> list[Problem]:
        """What was wrong before and what was found here, each once."""
        return list(dict.fromkeys([*self._before, *self.told]))

    def value(self, node: yaml.Node, at: Where) -> Any:
        """The value of a node and of all below it, or that it is left out."""
        line = node.start_mark.line + 1
        self.lines.setdefault(at, line)
        self._count += 1
        if self._count > MAX_NODES:
            self._stop(line, f"more than {MAX_NODES} values (aliases repeat theirs): make it smaller")
        if len(at) > MAX_DEPTH:
            self._stop(line, f"nested more than {MAX_DEPTH} deep: a scene is flat")
        if node.tag not in _PLAIN:
            return self._leave(
                at, line, f"values of kind {node.tag} are not read: write plain text and numbers"
            )
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, at)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            return self._leave(at, line, f"cannot read this value ({error}): write plain text or a number")

    def _list(self, node: yaml.SequenceNode, at: Where) -> list[Any]:
        found: list[Any] = []
        for child in node.value:
            value = self.value(child, (*at, len(found)))
            if value is not _LEFT_OUT:
                found.append(value)
        return found

    def _mapping(self, node: yaml.MappingNode, at: Where) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._leave((*at, "#key"), line, "a name is plain text")
                continue
            key = self.value(key_node, (*at, "#key"))
            self.lines.pop((*at, "#key"), None)
            if key is _LEFT_OUT:
                continue
            if key in found:
                self.told.append(Problem(line, f"{key!r} is given twice: keep one"))
                continue
            self.lines[(*at, key)] = line
            value = self.value(child, (*at, key))
            if value is not _LEFT_OUT:
                found[key] = value
        return found

    def _leave(self, at: Where, line: int, text: str) -> Any:
        self.lines.pop(at, None)
        self.told.append(Problem(line, text))
        self.whole = False
        return _LEFT_OUT

    def _stop(self, line: int, text: str) -> NoReturn:
        raise SceneError(self.path, [*self.all, Problem(line, text)])
