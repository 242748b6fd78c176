"""What a page is told about unfinished work is small, plain, and shows what there is."""

import base64
import io
import json

import numpy as np
from PIL import Image

from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.previews import curves_preview, notes_preview, picture_preview, sound_preview


def test_a_sound_is_seen_as_the_loudest_of_its_stretches():
    samples = np.zeros((1, 9600), np.float32)
    samples[0, 4800:] = 0.5
    seen = sound_preview(samples, 4800)
    assert seen["seconds"] == 2.0
    assert seen["peaks"][0] == 0.0
    assert seen["peaks"][-1] == 0.5


def test_a_face_is_seen_as_a_few_of_its_curves():
    curves = FaceCurves.neutral(50, 25.0)
    curves.weights[25:, ARKIT_INDEX["jawOpen"]] = 1.5
    jaw = curves_preview(curves)["curves"]["jawOpen"]
    assert (jaw[0], jaw[-1]) == (0.0, 1.0)


def test_many_notes_are_thinned_and_the_last_second_is_kept():
    notes = np.array([[0.1 * index, 0.1, 60, 90] for index in range(1000)], np.float64)
    seen = notes_preview(notes)
    assert len(seen["notes"]) <= 400
    assert seen["seconds"] == 100.0


def test_a_picture_is_seen_small_and_fits_into_a_message():
    frame = np.random.default_rng(0).integers(0, 255, (720, 960, 4), np.uint8)
    seen = picture_preview(frame)
    assert len(json.dumps(seen)) < 40_000
    shown = Image.open(io.BytesIO(base64.b64decode(seen["picture"].partition(",")[2])))
    assert shown.size == (235, 176)
