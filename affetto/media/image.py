"""Reading photographs and textures safely, and writing PNG files that are the same every time."""

import io
import warnings
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from affetto.media.files import checked_size, first_bytes, looked_at, looks_like_text
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.runtime.limited import Limits

MAX_PIXELS = 50_000_000
MAX_BYTES = 256 * 2**20
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def load_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "row column 3"]:
    """The picture as 8-bit sRGB rows, upright.

    EXIF orientation is applied; CMYK, palette, grey and 16-bit pictures are converted; transparency is laid over white.
    The pixel count is checked in the header, before decoding. Raises `InvalidInputError` for anything unusable.
    """
    path = Path(path)
    _check_head(path)
    with path.open("rb") as file:
        return decode_image(file, path, max_pixels=max_pixels)


def look_at_picture(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture, decoded once in a process bounded in memory and time.

    Raises as `load_image` does, and for a file that takes more than 1.5 GiB or 20 processor seconds, or crashes its decoder.
    """
    path = Path(path)
    _check_head(path)
    width, height = looked_at(path, "affetto.media.image:first_look", limits=Limits(memory=3 << 29))
    return width, height


def first_look(path: str) -> tuple[int, int]:
    """What `look_at_picture` finds, in the process with limits."""
    height, width, _ = load_image(path).shape
    return width, height


def _check_head(path: Path) -> None:
    checked_size(path, MAX_BYTES, kind="picture")
    if looks_like_text(first_bytes(path)):
        raise InvalidInputError(f"{path}: is text, not a picture: use PNG, JPEG or WebP")


def decode_image(
    source: BufferedReader | BytesIO, path: Path, *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "row column 3"]:
    """Like `load_image`, from an open stream; `path` is named in errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the check below is stricter
            picture = Image.open(source, formats=FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise InvalidInputError(
                f"{path}: {width}x{height} is {width * height / 1e6:.0f} Mpx, over {max_pixels / 1e6:.0f} Mpx: shrink it"
            )
        picture.load()
        return _to_rgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError as error:
        raise InvalidInputError(
            f"{path}: has too many pixels (limit {max_pixels / 1e6:.0f} Mpx): shrink it"
        ) from error
    except UnidentifiedImageError as error:
        raise InvalidInputError(f"{path}: not a picture affetto reads: use PNG, JPEG or WebP") from error
    except InvalidInputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InvalidInputError(
            f"{path}: the picture is cut off or damaged ({error}): export it again"
        ) from error


def _to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "row column 3"]:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, np.float64)
        top = 65535.0 if values.max(initial=0.0) > 255 or picture.mode.startswith("I;16") else 255.0
        grey = np.clip(values * (255.0 / top) + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, layer).convert("RGB"))
    return np.array(picture.convert("RGB"))


def png_bytes(pixels: UInt8[np.ndarray, "row column channel"]) -> bytes:
    """The picture (RGB or RGBA) as a PNG file, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=9, optimize=False)
    return buffer.getvalue()


def jpeg_bytes(pixels: UInt8[np.ndarray, "row column 3"], *, quality: int = 92) -> bytes:
    """The picture as a JPEG file, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()


def save_png(path: str | Path, pixels: UInt8[np.ndarray, "row column 3"], *, overwrite: bool = True) -> Path:
    """Write the picture as PNG; the same pixels always give the same bytes. Returns the path."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(png_bytes(pixels))
    return Path(path)
