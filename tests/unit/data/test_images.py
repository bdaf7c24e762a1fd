"""Images of every kind become RGB as people see them, or are refused in one line that names them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.data import images
from racro.data.images import BadImage, decode, image_bytes, open_image
from racro.schema import ImageRef
from tests.support.examples import examples


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def halves(left: Any, right: Any, mode: str = "RGB", size: tuple[int, int] = (40, 10)) -> Image.Image:
    """An image of two colours."""
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def colours(data: bytes) -> list[Any]:
    """The colours left and right."""
    image = decode(data, "x")
    assert image.mode == "RGB"
    y = image.height // 2
    return [image.getpixel((1, y)), image.getpixel((image.width - 2, y))]


RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(halves(RED, BLUE)), [RED, BLUE]),
        (encoded(halves(RED, BLUE).quantize(4)), [RED, BLUE]),
        (encoded(halves((255, 0, 0, 0), (0, 0, 255, 255), "RGBA")), [WHITE, BLUE]),
        (encoded(halves((255, 0, 0, 128), (0, 0, 0, 0), "RGBA")), [(255, 127, 127), WHITE]),
        (encoded(halves((0, 255), (90, 0), "LA")), [BLACK, WHITE]),
        (
            encoded(halves(BLACK, RED).quantize(2), transparency=halves(BLACK, RED).quantize(2).getpixel((39, 0))),
            [BLACK, WHITE],
        ),
        (encoded(halves(0, 1, "1")), [BLACK, WHITE]),
        (encoded(halves((0, 255, 255, 0), (0, 0, 0, 0), "CMYK"), "TIFF"), [RED, WHITE]),
        (encoded(halves(0, 200, "L"), "BMP"), [BLACK, (200, 200, 200)]),
        (encoded(halves(RED, BLUE), "GIF"), [RED, BLUE]),
        (encoded(halves(RED, BLUE), "WEBP", lossless=True), [RED, BLUE]),
    ],
    ids=["RGB", "palette", "alpha", "half alpha", "LA", "palette alpha", "bilevel", "CMYK", "BMP", "GIF", "WebP"],
)
def test_every_mode_becomes_rgb_on_white(data: bytes, expected: list[Any]) -> None:
    assert colours(data) == expected


def test_a_jpeg_of_cmyk_is_not_inverted() -> None:
    left, right = colours(encoded(halves((0, 255, 255, 0), (0, 0, 0, 0), "CMYK", (64, 32)), "JPEG", quality=95))
    assert np.allclose(left, RED, atol=12) and np.allclose(right, WHITE, atol=12)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_grey_of_16_bits_keeps_its_shades(form: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 8).reshape(8, 64).astype(np.uint16)
    found = np.asarray(decode(encoded(Image.fromarray(ramp), form), "x")).astype(int)
    assert np.abs(found - (ramp // 257)[..., None]).max() <= 1


def test_grey_of_32_bits_that_fits_in_8_stays_as_it_is() -> None:
    ramp = np.arange(200, dtype=np.int32).reshape(10, 20)
    found = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF"), "x"))
    assert (found == ramp[..., None]).all()


@pytest.mark.parametrize("size", [(1, 1), (333, 77), (1, 200), (7, 1)])
def test_sizes_and_with_them_aspect_ratios_are_kept(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("RGB", size)), "x").size == size


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (201, 1), (2, 50_001)])
@pytest.mark.parametrize("mode", ["RGB", "P", "1", "I;16", "CMYK", "LA"])
def test_images_too_long_for_the_processor_get_a_white_margin(size: tuple[int, int], mode: str) -> None:
    ramp = Image.fromarray(np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size[1], size[0]))
    image = ramp.convert(mode)
    whole = decode(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), "x")
    assert max(whole.size) == max(size) <= images.MAX_ASPECT * min(whole.size)
    left, top = ((a - b) // 2 for a, b in zip(whole.size, size, strict=True))
    inside = whole.crop((left, top, left + size[0], top + size[1]))
    shades = [np.asarray(picture.convert("L")).astype(int) for picture in (inside, ramp.convert(mode))]
    assert mode == "I;16" or np.abs(shades[0] - shades[1]).max() <= 1
    whole.paste("white", (left, top, left + size[0], top + size[1]))
    assert whole.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize(
    ("orientation", "size", "first"),
    [(1, (40, 10), RED), (3, (40, 10), BLUE), (6, (10, 40), RED), (8, (10, 40), BLUE), (2, (40, 10), BLUE)],
)
def test_the_camera_held_otherwise(orientation: int, size: tuple[int, int], first: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(halves(RED, BLUE), exif=exif), "x")
    assert image.size == size
    assert image.getpixel((1, 1)) == first


def png_with(*chunks: tuple[bytes, bytes], image: Image.Image | None = None) -> bytes:
    """A PNG file with chunks behind its header and before its end."""
    data = encoded(image or halves(RED, BLUE))
    made = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    end = data.rindex(b"IEND") - 4
    return data[:33] + b"".join(made[::2]) + data[33:end] + b"".join(made[1::2]) + data[end:]


WORDS = b"Comment\0\0" + zlib.compress(b"so many words " * 200_000)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"zTXt", WORDS)],
        [(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"so many words " * 200_000))],
        [(b"tEXt", b"Comment\0" + b"x" * 2_000_000)] * 40,
        [(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 3_000_000))],
        [(b"tIME", b""), (b"zTXt", WORDS)],
        [(b"acTL", struct.pack(">II", 5, 0)), (b"zTXt", WORDS)],
        [(b"zTXt", WORDS), (b"eXIf", b"Exif\0\0broken")],
    ],
    ids=["zTXt", "iTXt", "80 MB of text", "profile", "behind the pixels", "animated", "broken EXIF"],
)
def test_what_stands_beside_the_pixels_of_a_png_does_not_matter(chunks: list[tuple[bytes, bytes]]) -> None:
    data = png_with(*chunks)
    assert colours(data) == [RED, BLUE]
    assert images.suffix(data) == "png"


def test_transparency_and_rotation_survive_too_much_text() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = halves((255, 0, 0, 0), (0, 0, 255, 255), "RGBA")
    rotation = exif.tobytes().removeprefix(b"Exif\0\0")
    turned = decode(png_with((b"zTXt", WORDS), (b"eXIf", rotation), image=image), "x")
    assert turned.size == (10, 40) and turned.getpixel((1, 1)) == WHITE
    palette = halves(BLACK, RED).quantize(2)
    clear = encoded(palette, transparency=palette.getpixel((39, 0)))
    text = struct.pack(">I", len(WORDS)) + b"zTXt" + WORDS + struct.pack(">I", zlib.crc32(b"zTXt" + WORDS))
    assert colours(clear[:33] + text + clear[33:]) == [BLACK, WHITE]


def test_too_much_text_does_not_save_a_file_that_is_cut() -> None:
    data = png_with((b"zTXt", WORDS), image=Image.effect_noise((90, 90), 50))
    assert "not a readable image" in refused(data[:-3000])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_taken(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(halves(RED, BLUE), form, save_all=True, append_images=[halves(BLACK, WHITE)], duration=9, **options)
    assert colours(data) == [RED, BLUE]


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_metadata_costs_the_rotation_and_not_the_picture(exif: bytes) -> None:
    assert decode(encoded(Image.new("RGB", (40, 10), "red"), "JPEG", exif=exif), "x").size == (40, 10)


@pytest.mark.parametrize("brightest", [1.0, 255.0, 65535.0])
def test_grey_in_floats_keeps_its_shades(brightest: float) -> None:
    ramp = np.linspace(0, 1, 64 * 8).reshape(8, 64)
    data = encoded(Image.fromarray((ramp * brightest).astype(np.float32)), "TIFF")
    assert np.abs(np.asarray(decode(data, "x")).astype(int) - (ramp * 255)[..., None]).max() <= 1


# --- what is no image -------------------------------------------------------------------------------------------------


def refused(data: bytes) -> str:
    with pytest.raises(BadImage, match=r"^name\.png: ") as caught:
        decode(data, "name.png")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    whole = encoded(Image.new("RGB", (1, 1)))
    refused(whole[:16] + header + whole[29:])
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    assert "10 x 10 pixels is more than 99" in refused(encoded(Image.new("RGB", (10, 10))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this is text",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encoded(Image.effect_noise((90, 90), 50))[:900],
        encoded(Image.effect_noise((90, 90), 50).convert("RGB"), "JPEG")[:900],
        b"P6 1 x 255\n",
        b"P5\n3 3\n70000\n",
        b"P6\n-1 5\n255\nabc",
    ],
    ids=["empty", "text", "svg", "cut PNG", "cut JPEG", "PPM of words", "PPM too deep", "PPM of negative width"],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    refused(data)


FORMS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "SGI",
    "TGA",
    "PCX",
    "ICO",
    "DDS",
    "ICNS",
    "JPEG2000",
    "QOI",
)
SOUND = {
    form: encoded(Image.effect_noise((32, 32), 50).convert("RGBA" if form == "ICNS" else "RGB"), form) for form in FORMS
}


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from(FORMS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4),
    st.floats(0, 1),
    st.booleans(),
)
def test_damage_of_any_kind_is_an_image_or_refused(
    form: str, damage: list[tuple[float, bytes]], end: float, cut: bool
) -> None:
    """Decoders of rare formats raise what they please; nothing but BadImage may leave."""
    data = bytearray(SOUND[form])
    for place, replacement in damage:
        at = int((place**3) * (len(data) - 1))  # most of them in the header
        data[at : at + len(replacement)] = replacement
    try:
        assert decode(bytes(data[: int(end * len(data))] if cut else data), "x").mode == "RGB"
    except BadImage as error:
        assert str(error).startswith("x: ")


@pytest.mark.parametrize("form", FORMS)
def test_sound_files_of_these_formats_are_read(form: str) -> None:
    assert decode(SOUND[form], "x").mode == "RGB"


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_changed_or_missing_file_is_noticed_and_the_folder_to_delete_is_named(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (4, 4), "red"))
    (tmp_path / "a.png").write_bytes(data)
    ref = ImageRef(path="a.png", sha256=images.sha256(data))
    assert open_image(ref, str(tmp_path)).getpixel((0, 0)) == RED
    assert open_image(ref, f"file://{tmp_path}/").size == (4, 4)
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (4, 4), "blue")))
    with pytest.raises(BadImage, match=rf"a\.png: the image changed .*; delete {tmp_path} and run again"):
        open_image(ref, str(tmp_path))
    (tmp_path / "a.png").unlink()
    with pytest.raises(BadImage, match=r"a\.png: no such image"):
        open_image(ref, str(tmp_path))


@pytest.mark.parametrize("path", ["{}/none.png", "{}", "{}/a.png/b.png", "memory://nowhere/a.png"])
def test_a_path_that_leads_to_no_file_is_a_bad_image(path: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(BadImage, match="no such image"):
        image_bytes(path.format(tmp_path))
