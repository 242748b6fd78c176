"""What can be wrong with a scene: each problem with its line, all of them in one error."""

from dataclasses import dataclass
from pathlib import Path

from affetto.runtime.errors import InvalidInputError

Where = tuple[str | int, ...]
"""The place of a value in a document: names and numbers from the outside in."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a scene, and the line it stands on (0 when there is no file)."""

    line: int
    text: str


class SceneError(InvalidInputError):
    """A scene cannot be used; `problems` holds all that is wrong with it, by line."""

    def __init__(self, path: Path | None, problems: list[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems))
        told = "; ".join(self.lines)
        super().__init__(told if len(problems) == 1 else f"{len(problems)} problems: {told}")

    @property
    def lines(self) -> tuple[str, ...]:
        """Each problem as `file:line: what and how to mend it`."""
        name = "the scene" if self.path is None else str(self.path)
        return tuple(f"{name}:{p.line}: {p.text}" if p.line else f"{name}: {p.text}" for p in self.problems)
