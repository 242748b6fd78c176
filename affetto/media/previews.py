"""What unfinished work looks and sounds like: a few plain values that a page can draw, small enough to be sent every second."""

import base64
import io
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves

_PEAKS, _NOTES, _SIDE = 96, 400, 176
_SEEN = ("jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkLeft")


def sound_preview(samples: Num[np.ndarray, "*channel sample"], rate: int) -> dict[str, Any]:
    """`peaks` (0..1, of equal stretches) and `seconds` of a sound."""
    mono = np.abs(np.atleast_2d(samples)).max(axis=0)
    return {"peaks": _stretches(mono, np.max), "seconds": round(len(mono) / rate, 2)}


def curves_preview(curves: FaceCurves) -> dict[str, Any]:
    """`curves`: jaw, smile, brows and lids over time, 0..1, and `seconds`."""
    seen = {name: curves.weights[:, ARKIT_INDEX[name]] for name in _SEEN}
    return lines_preview(seen, len(curves) / curves.fps)


def lines_preview(lines: Mapping[str, np.ndarray], seconds: float) -> dict[str, Any]:
    """`curves`: named courses over time, clipped to 0..1, and `seconds`."""
    drawn = {name: _stretches(np.clip(values, 0.0, 1.0), np.mean) for name, values in lines.items()}
    return {"curves": drawn, "seconds": round(seconds, 2)}


def notes_preview(notes: Float[np.ndarray, "note 4"]) -> dict[str, Any]:
    """`notes` (start and length in seconds, pitch, velocity), at most four hundred of them, and `seconds`."""
    end = float((notes[:, 0] + notes[:, 1]).max(initial=0.0))
    step = max(1, -(-len(notes) // _NOTES))
    return {"notes": np.round(notes[::step], 2).tolist(), "seconds": round(end, 2)}


def picture_preview(frame: UInt8[np.ndarray, "row column channel"]) -> dict[str, Any]:
    """`picture`: a small JPEG as a data URL."""
    image = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
    image.thumbnail((2 * _SIDE, _SIDE))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=72)
    return {"picture": "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()}


def _stretches(values: np.ndarray, gist: Any) -> list[float]:
    edges = np.linspace(0, len(values), min(_PEAKS, max(len(values), 1)) + 1).astype(int)
    return [round(float(gist(values[a:b])), 3) for a, b in itertools.pairwise(edges) if b > a]
