"""Whether and how outputs are marked: on by default, off only by an explicit wish that is itself recorded."""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from affetto.runtime.errors import UsageError

PUBLIC_KEY = 0xAFFE770
"""The key of the marks that anyone can look for. A key of one's own makes marks that only its holder finds."""

SIGNING = ("auto", "always", "never")


@dataclass(frozen=True, kw_only=True)
class MarkingSettings:
    """`watermark`: marks in sound and pictures. `sign`: a C2PA manifest: where the package for it is installed, always, or never.

    Signatures differ each time, so that the same seed gives the same bytes only where nothing is signed.
    """

    watermark: bool = True
    sign: str = "auto"
    recipe: bool = True  # what makes a file again, within it
    key: int = PUBLIC_KEY
    tag: int = 0  # up to 4095: which batch, or whatever an operator wants to find again

    def __post_init__(self) -> None:
        if self.sign not in SIGNING:
            raise UsageError(f"signing {self.sign!r}: use {', '.join(SIGNING)}")
        if not 0 <= self.tag < 4096:
            raise UsageError(f"mark's tag {self.tag}: use 0 to 4095")
        if not 0 <= self.key < 2**63:
            raise UsageError(f"mark's key {self.key}: use a number from 0 to 2^63 - 1")

    @property
    def words(self) -> str:
        """What was done, for a recipe."""
        recipe = "" if self.recipe else ", recipe off"
        return f"watermark {'on' if self.watermark else 'off'}, signing {self.sign}{recipe}"


def _from_environment() -> MarkingSettings:
    """`AFFETTO_WATERMARK=off`, `AFFETTO_SIGN=never|auto|always`, `AFFETTO_RECIPE=off`, `AFFETTO_MARK_KEY=NUMBER` change the defaults."""
    mark, recipe = _switch("AFFETTO_WATERMARK"), _switch("AFFETTO_RECIPE")
    key = os.environ.get("AFFETTO_MARK_KEY", str(PUBLIC_KEY))
    if not key.isdecimal():
        raise UsageError("AFFETTO_MARK_KEY is no number: use 0 to 2^63 - 1")
    sign = os.environ.get("AFFETTO_SIGN", "auto").lower()
    return MarkingSettings(watermark=mark, sign=sign, recipe=recipe, key=int(key))


def _switch(name: str) -> bool:
    value = os.environ.get(name, "on").lower()
    if value not in ("on", "off"):
        raise UsageError(f"{name}={value}: use on or off")
    return value == "on"


_current: contextvars.ContextVar[MarkingSettings | None] = contextvars.ContextVar(
    "affetto_marking", default=None
)


def marking_settings() -> MarkingSettings:
    """The settings in force here: those of the innermost `marking` block, else the environment's, else the defaults."""
    return _current.get() or _from_environment()


@contextlib.contextmanager
def marking(
    *,
    watermark: bool | None = None,
    sign: str | None = None,
    recipe: bool | None = None,
    key: int | None = None,
    tag: int | None = None,
) -> Iterator[MarkingSettings]:
    """Other settings for what is saved within the block."""
    given = {"watermark": watermark, "sign": sign, "recipe": recipe, "key": key, "tag": tag}
    settings = replace(
        marking_settings(), **{name: value for name, value in given.items() if value is not None}
    )
    token = _current.set(settings)
    try:
        yield settings
    finally:
        _current.reset(token)
