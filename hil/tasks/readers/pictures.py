"""Picture files to arrays: the one door through which Pillow enters.

A file is data from outside: only common formats are tried, a decoder's complaint becomes a
`BrokenPictureError` with its words, and a picture of absurd size is refused before it is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hil.tasks.readers.reading import Pixels

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
MOST_PIXELS = 80_000_000
"""Below the size from which Pillow warns of a picture made to exhaust memory."""

_ORIENTATION = 0x0112
# What Pillow's decoders come to on damaged files, format by format.
_BROKEN = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError),
    *(struct.error, zlib.error),
)
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class BrokenPictureError(Exception):
    """A file that holds no picture we can use; its text says what is wrong."""


@contextmanager
def _complaints() -> Iterator[None]:
    """Turn what a decoder says of a damaged file, at whatever call, into a broken picture."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise BrokenPictureError(f"it is no {', '.join(FORMATS)} picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenPictureError("it has more pixels than any picture should") from error
    except _BROKEN as error:
        raise BrokenPictureError(f"it cannot be decoded ({error})") from error


def picture(content: bytes, channels: int = 3) -> Pixels:
    """Decode one picture, turned upright where its EXIF says so.

    Args:
        content: of the file.
        channels: 3 (RGB) or 1 (grey).

    Returns:
        uint8, `channels x height x width`.

    Raises:
        BrokenPictureError: it is truncated, of a kind we do not read, or no picture at all.
    """
    with _complaints():
        image = ImageOps.exif_transpose(_opened(content))
        if image.mode not in _EIGHT_BITS:
            raise BrokenPictureError(f"its pixels are of kind {image.mode}, only 8 bits are read")
        array = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    planes = array.transpose(2, 0, 1) if channels == 3 else array[None]
    return np.ascontiguousarray(planes)


def class_picture(content: bytes) -> Pixels:
    """Decode one label picture: a class number in every pixel.

    Returns:
        uint8, `height x width`; numbers as stored, a palette's colours not applied.

    Raises:
        BrokenPictureError: it cannot be decoded, or holds colours in place of numbers.
    """
    with _complaints():
        image = _opened(content)
        image.load()
    if image.mode not in ("L", "P"):
        raise BrokenPictureError(
            f"it is of kind {image.mode}; label pictures hold a class number of 8 bits a pixel"
        )
    return np.array(image)


def stored_size(content: bytes) -> tuple[int, int]:
    """Height and width of a picture once upright.

    Raises:
        BrokenPictureError: its header does not say.
    """
    with _complaints():
        image = _opened(content)
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def _opened(content: bytes) -> Image.Image:
    """A picture whose header was read, and no more."""
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > MOST_PIXELS:
        raise BrokenPictureError("it has more pixels than any picture should")
    return image


def resized(planes: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture (`c x h x w`) at another height and width, bilinear with antialiasing."""
    if planes.shape[1:] == size:
        return planes
    height, width = size
    scaled = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        for plane in planes
    ]
    return np.stack(scaled)


def resized_classes(mask: Pixels, size: tuple[int, int]) -> Pixels:
    """A label picture (`h x w`) at another size: classes of nearest pixels, no mixtures."""
    if mask.shape == size:
        return mask
    height, width = size
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
