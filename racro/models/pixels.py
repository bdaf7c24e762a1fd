"""How large a captioner sees images: `captioner.min_pixels` and `captioner.max_pixels`, put into its processor.

Only processors have such limits that scale an image as a whole, as those of Qwen-VL and GLM-V do. Others cut it into
tiles or bring every image to one size, and are refused. Called where processors are loaded (`racro.models.folders`), so
engine, trainer and preparation see the same.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from racro.config import PixelRange
from racro.errors import BadInput

UNLIMITED: PixelRange = (None, None)
NAMES = (("shortest_edge", "longest_edge"), ("min_pixels", "max_pixels"))
"""What processors call both limits in their `size`: with these processors, even an edge is a number of pixels."""


class NoPixelLimits(BadInput):
    """An image processor without limits on the number of pixels."""


def limit(processor: Any, pixels: PixelRange) -> None:
    """Have a processor bring images into these limits; None leaves one as it is. Raises NoPixelLimits."""
    if pixels == UNLIMITED:
        return
    images = processor.image_processor
    frames, names = _frames(images), _names(images)
    if frames is None or names is None:
        raise NoPixelLimits(
            f"captioner.max_pixels, min_pixels: {type(images).__name__} does not scale images to a number of pixels; "
            "leave them out, or set sizes in a local copy of the model's preprocessor_config.json"
        )
    size = {name: images.size[name] for name in names}
    size |= {name: value * frames for name, value in zip(names, pixels, strict=True) if value is not None}
    if size[names[0]] > size[names[1]]:
        least, most = (size[name] // frames for name in names)
        raise NoPixelLimits(
            f"captioner.min_pixels is {least} and max_pixels {most}, one of them the checkpoint's: set both"
        )
    images.size = type(images.size)(**size)


def arguments(processor: Any, pixels: PixelRange) -> dict[str, Any]:
    """The same limits for vLLM's `mm_processor_kwargs`, of a processor that has them."""
    if pixels == UNLIMITED:
        return {}
    names = _names(processor.image_processor)
    assert names is not None
    return {"images_kwargs": {"size": {name: processor.image_processor.size[name] for name in names}}}


def write(folder: Path, processor: Any, pixels: PixelRange) -> None:
    """Put the limits into the files of a model's processor, for whoever loads the folder without a recipe."""
    if pixels == UNLIMITED:
        return
    names = _names(processor.image_processor)
    assert names is not None
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = folder / name
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        images = content if name.startswith("pre") else content.get("image_processor")
        if images:
            images["size"] = {name: processor.image_processor.size[name] for name in names}
            for older in ("min_pixels", "max_pixels"):
                images.pop(older, None)
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _names(images: Any) -> tuple[str, str] | None:
    size = getattr(images, "size", None)
    return next((names for names in NAMES if size is not None and all(_known(size, name) for name in names)), None)


def _known(size: Any, name: str) -> bool:
    return (size.get(name) if isinstance(size, dict) else getattr(size, name, None)) is not None


def _frames(images: Any) -> int | None:
    """Over how many frames a processor counts an image's pixels; None if it does not go by pixels."""
    for kind in type(images).__mro__:
        resize = getattr(sys.modules.get(kind.__module__), "smart_resize", None)
        names = inspect.signature(resize).parameters if resize else {}
        if "max_pixels" in names:
            return int(images.temporal_patch_size) if "num_frames" in names else 1
    return None
