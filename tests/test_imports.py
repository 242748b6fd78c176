"""What may be imported from where, checked in processes of their own so that this one's imports do not count."""

import subprocess
import sys
from pathlib import Path

import pytest

import affetto

ROOT = Path(__file__).parent.parent


def python(program: str, *, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hugging_face_tokenizers_is_not_shadowed_in_the_repository_root():
    assert "site-packages" in python(
        "import tokenizers; from tokenizers import Tokenizer; print(tokenizers.__file__)"
    )


def test_importing_affetto_imports_nothing_heavy():
    modules = python("import affetto, affetto.apps.cli, sys; print(*sys.modules)").split()
    assert not {"torch", "numpy", "scipy", "matplotlib", "numba", "transformers", "gradio"} & set(modules)


def test_reading_arrays_of_weights_needs_no_torch():
    modules = python("import affetto.weights.store, sys; print(*sys.modules)").split()
    assert "torch" not in modules


@pytest.mark.parametrize("name", [name for name in affetto.__all__ if name != "__version__"])
def test_every_public_name_can_be_imported(name):
    assert getattr(affetto, name).__name__ == name
    assert name in dir(affetto)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Sparkle'"):
        affetto.Sparkle  # noqa: B018
