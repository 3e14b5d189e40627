"""Writes images as PNG, without loss, for programs that take them in a message."""

import base64
import io

from PIL import Image


def png(image: Image.Image) -> bytes:
    """Returns the bytes of an image's PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def png_text(image: Image.Image) -> str:
    """Returns the bytes of an image's PNG file in base64."""
    return base64.b64encode(png(image)).decode()
