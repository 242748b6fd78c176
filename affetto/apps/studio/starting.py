"""Starting quickly: what Gradio does for its developers while it is imported is left out, and nothing is collected meanwhile."""

import contextlib
import gc
import inspect
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """Within it, importing Gradio takes less than half as long, and its folder is left as it was.

    Gradio parses the source of each of its components as they are imported and writes a type stub for editors beside it,
    unless the source of a class cannot be found: within this context, that of its own classes cannot. Nothing of what it
    imports and builds becomes garbage soon, so the collector rests too, and later passes over what was made here.
    """
    found, collecting = inspect.getfile, gc.isenabled()

    def getfile(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.partition(".")[0] == "gradio":
            raise OSError("no stubs are written for the components of Gradio")
        return found(thing)

    inspect.getfile = getfile
    gc.disable()
    try:
        yield
    finally:
        inspect.getfile = found
        if collecting:
            gc.freeze()
            gc.enable()
