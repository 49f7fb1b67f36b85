"""Where a picture's file keeps its texts: PNG by name, JPEG and WebP in the fields of a camera (EXIF).

There ``parameters`` are the user's comment, in UTF-16 after the word UNICODE, as A1111 has it. Any other text is the
value "name:text" of a field that a camera has for words, as ComfyUI has it; ours, ``safelight``, is the description of
the image. A field of EXIF in a JPEG ends at 64 kB, which is said before anything is drawn.

Sources: the EXIF standard 2.32, 4.6.5 (UserComment); PNG, third edition, 11.3.3 (tEXt, iTXt).
"""

from __future__ import annotations

import html
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo

from safelight.errors import ImageError

PARAMETERS, RECIPE = "parameters", "safelight"
CAMERA, COMMENT, DESCRIPTION = 0x8769, 0x9286, 0x010E
WORDS = (DESCRIPTION, 0x010F, 0x0110, 0x0131)
"""Fields for words: of the image, the maker, the camera, the software."""
NAMED = re.compile(r"(prompt|workflow|safelight|invokeai_metadata|parameters): ?(?=\S)", re.IGNORECASE)
XMP = re.compile(r"<sdcpp:parameters>(.*?)</sdcpp:parameters>", re.DOTALL)
UTF16 = b"UNICODE\0"
LONGEST_FIELD = 65_533 - 6
"""Bytes of EXIF that a JPEG can hold."""
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Ends of names -> kinds of files that texts are written into."""
QUALITY = 95


def texts(picture: Image.Image) -> dict[str, str]:
    """Every text that a picture brings along, by its name; whatever is damaged is passed over."""
    found = {name: str(text) for name, text in picture.info.items() if isinstance(name, str) and isinstance(text, str)}
    for name, text in _exif(picture):
        found.setdefault(name, text)
    xmp = picture.info.get("xmp")
    if isinstance(xmp, bytes) and (told := XMP.search(xmp.decode("utf-8", "replace"))):
        found.setdefault(PARAMETERS, html.unescape(told[1]))
    return found


def _exif(picture: Image.Image) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = picture.getexif()
            comment = fields.get_ifd(CAMERA).get(COMMENT)
            named = [fields.get(tag) for tag in WORDS]
    except Exception:  # readers of hostile files raise anything
        return
    if isinstance(comment, bytes) and (text := comment_text(comment)):
        yield PARAMETERS, text
    for value in named:
        if isinstance(value, str) and (name := NAMED.match(value)):
            yield name[1].lower(), _utf8(value[name.end() :])


def _utf8(text: str) -> str:
    """A text of UTF-8 that was read as Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8").rstrip("\0")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text


def comment_text(comment: bytes) -> str:
    """The text of a user's comment; empty where it is none.

    Programs write UTF-16 in either order of bytes and do not say in which. The right one has fewer letters beyond
    Latin: every settings line is ASCII.
    """
    code, rest = comment[:8], comment[8:]
    if code == UTF16:
        if rest[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return rest.decode("utf-16", "replace")
        zeros = [rest[place::2].count(0) for place in (0, 1)]
        return rest.decode("utf-16-be" if zeros[0] >= zeros[1] else "utf-16-le", "replace")
    if code in (b"ASCII\0\0\0", bytes(8)):
        return rest.decode("utf-8", "replace").rstrip("\0")
    return ""


def exif(kind: str, told: Mapping[str, str]) -> bytes:
    """Texts as EXIF.

    Args:
        kind: of the file, as in KINDS.
        told: PARAMETERS, and RECIPE in JSON.

    Raises:
        ImageError: they do not fit in that kind of file.
    """
    fields = Image.Exif()
    if RECIPE in told:
        fields[DESCRIPTION] = f"{RECIPE}:{json.dumps(json.loads(told[RECIPE]))}"  # in ASCII, as such fields are
    if PARAMETERS in told:
        fields.get_ifd(CAMERA)[COMMENT] = UTF16 + told[PARAMETERS].encode("utf-16-be")
    data = fields.tobytes()
    if kind == "JPEG" and len(data) > LONGEST_FIELD:
        raise ImageError(f"a recipe of {len(data)} bytes does not fit in a JPEG; write PNG or WebP")
    return data


def encoded(picture: Image.Image, kind: str, told: Mapping[str, str], quality: int = QUALITY) -> bytes:
    """A picture as the bytes of a file with these texts: PNG and WebP to the last bit, JPEG with whole colours.

    Args:
        kind: PNG, JPEG or WEBP. quality: of a JPEG, 1 to 100.

    Raises:
        ImageError: the texts do not fit.
    """
    data = io.BytesIO()
    if kind == "PNG":
        info = PngInfo()
        for name, text in told.items():
            info.add_text(name, text)
        picture.save(data, kind, pnginfo=info)
    elif kind == "JPEG":
        picture.save(data, kind, quality=quality, subsampling=0, exif=exif(kind, told))
    else:
        picture.save(data, kind, lossless=True, exact=True, exif=exif(kind, told))
    return data.getvalue()


def squeezed(picture: Image.Image, like: str | Path) -> Image.Image:
    """A picture after the same losses as in a JPEG: its tables and its colours; unchanged for any other file.

    Raises:
        ImageError: the file cannot be read any more.
    """
    try:
        with Image.open(like, formats=tuple(set(KINDS.values()))) as file:
            if not isinstance(file, JpegImagePlugin.JpegImageFile):
                return picture
            tables, colours = file.quantization, JpegImagePlugin.get_sampling(file)
        data = io.BytesIO()
        picture.convert("RGB").save(data, "JPEG", qtables=tables, subsampling=max(colours, 0))
        with Image.open(data, formats=("JPEG",)) as again:
            return again.convert("RGB")
    except Exception as error:  # readers of hostile files raise anything
        raise ImageError(f"{like}: cannot be compressed alike ({str(error) or type(error).__name__})") from None


def lossy(path: str | Path) -> bool:
    """Whether a file is a JPEG."""
    with Path(path).open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"
