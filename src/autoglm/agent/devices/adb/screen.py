"""Screenshots as they come from ``screencap -p``."""

from __future__ import annotations

import re
import struct
from io import BytesIO

from PIL import Image

from autoglm.errors import DeviceOfflineError

DEFAULT_SIZE = (1080, 2400)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"IEND\xaeB`\x82"
_SEARCHED = 4096
_SIZE = re.compile(r"(Physical|Override) size: (\d{1,5})x(\d{1,5})")


def find_png(data: bytes) -> bytes | None:
    """The picture in ``data``, without what phones with several screens write before it; ``None``: there is none.

    Raises:
        DeviceOfflineError: the picture breaks off.
    """
    start = data.find(_SIGNATURE, 0, _SEARCHED)
    if start < 0:
        return None
    png = data[start:].rstrip(b"\r\n")
    if len(png) < 45 or not png.endswith(_END):
        raise DeviceOfflineError(f"the screenshot broke off after {len(png)} bytes", field="device", value=len(png))
    return png


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height, from the header."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def black(size: tuple[int, int]) -> bytes:
    """What the client shows the model where a screen may not be captured (payment, passwords)."""
    out = BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    return out.getvalue()


def screen_size(text: str) -> tuple[int, int]:
    """What ``wm size`` says; the size in force comes last. The client's assumption where it says nothing."""
    found = _SIZE.findall(text)
    return (int(found[-1][1]), int(found[-1][2])) if found else DEFAULT_SIZE
