"""Images of strangers: odd ones are read, hostile ones cost one line."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from racro.serving import pictures
from racro.serving.errors import ApiError
from racro.serving.limits import Limits

LIMITS = Limits(pixels=100_000)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG whose header promises more pixels than it has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


RED = Image.new("RGB", (20, 10), "red")
FRAMES = [Image.new("P", (20, 10), colour) for colour in (1, 2)]
GOOD = {
    "jpeg": saved(RED, "JPEG"),
    "webp": saved(RED, "WEBP"),
    "animated gif": saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "cmyk": saved(RED.convert("CMYK"), "JPEG"),
    "16 bits": saved(Image.new("I;16", (20, 10), 30_000), "PNG"),
    "alpha": saved(Image.new("RGBA", (20, 10), (255, 0, 0, 9)), "PNG"),
    "one bit": saved(Image.new("1", (20, 10)), "PNG"),
}
BAD = {
    "bomb": (bomb(100_000), 413, "image 1: more than 100,000 pixels; send a smaller one"),
    "too many": (saved(Image.new("1", (1000, 101)), "PNG"), 413, "101,000 pixels together; at most 100,000"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not a readable image; give PNG, JPEG"),
    "pdf": (b"%PDF-1.7", 415, "not a readable image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "not a readable image"),
    "text": (b"text", 400, "not a readable image"),
    "empty": (b"", 400, "image 1: empty"),
    "truncated": (saved(RED.resize((99, 99)), "PNG")[:-40], 400, "image 1: damaged, or cut off on its way"),
}


def loaded(*sources: str | bytes) -> tuple[Image.Image, ...]:
    return asyncio.run(pictures.load(sources, LIMITS))


@pytest.mark.parametrize("name", GOOD)
def test_images_of_all_kinds_become_rgb(name: str) -> None:
    [image] = loaded(GOOD[name])
    assert (image.mode, image.size) == ("RGB", (20, 10))


def test_images_keep_their_order() -> None:
    url = "data:image/png;base64," + base64.b64encode(GOOD["alpha"]).decode()
    first, second = loaded(url, GOOD["jpeg"])
    assert first.getpixel((3, 3)) != second.getpixel((3, 3))


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_image_is_one_line(name: str) -> None:
    content, status, said = BAD[name]
    with pytest.raises(ApiError) as refused:
        loaded(content)
    assert refused.value.status == status and said in str(refused.value), refused.value


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("data:image/png;base64,@@", 400, "not valid base64"),
        ("data:application/pdf;base64,AA==", 415, "application/pdf is no image"),
        ("data:", 400, "not a data: URL"),
        ("file:///etc/passwd", 400, "a link is of the kind http"),
    ],
)
def test_a_wrong_data_url_is_one_line(url: str, status: int, said: str) -> None:
    with pytest.raises(ApiError) as refused:
        loaded(url)
    assert refused.value.status == status and said in str(refused.value)


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 400), st.binary(max_size=4), st.integers(0, 400))
def test_damage_is_an_image_or_one_line(name: str, at: int, damage: bytes, end: int) -> None:
    content = GOOD[name]
    content = (content[:at] + damage + content[at + len(damage) :])[: len(content) - end]
    try:
        pictures.decode_all([content], LIMITS)
    except ApiError as error:
        assert error.status in (400, 413, 415) and "\n" not in str(error)
