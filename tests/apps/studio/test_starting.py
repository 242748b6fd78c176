"""Starting quickly leaves nothing changed behind."""

import gc
import inspect
from pathlib import Path

import pytest

from affetto.apps.studio.starting import quick_start


def test_only_while_it_starts_is_the_source_of_gradio_s_classes_not_found():
    gradio = pytest.importorskip("gradio")
    before = inspect.getfile
    with quick_start():
        with pytest.raises(OSError, match="no stubs"):
            inspect.getfile(gradio.HTML)
        assert Path(inspect.getfile(Path)).name == "pathlib.py"
        assert not gc.isenabled()
    assert inspect.getfile is before
    assert Path(inspect.getfile(gradio.HTML)).name == "html.py"
    assert gc.isenabled()
