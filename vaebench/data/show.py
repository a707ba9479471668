"""Looking at a data set: a contact sheet with labels and attributes, and how common each attribute is."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from vaebench.core.files import atomic_write
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import ImageDataset

CELL = 192  # pixels; images are enlarged by a whole number up to this, or shrunk to it
MARGIN = 8
LINE = 14
CHARACTERS = 33  # that fit into CELL at the small font


def contact_sheet(
    dataset: ImageDataset, path: Path | str, split: str | None = None, n: int = 24, columns: int = 6, seed: int = 0
) -> Path:
    """Write a PNG of ``n`` samples drawn at random, each with its class label and its attributes below it.

    Args:
        dataset: an opened data set.
        path: the PNG to write.
        split: which split to show; the first that holds images when None.
        n: how many samples; fewer if the split is smaller.
        columns: samples per row.
        seed: another seed shows others.

    Returns:
        the path.
    """
    split = split or next(name for name, part in dataset.splits.items() if len(part))
    data = dataset.split(split)
    rows = np.sort(numpy_generator(seed, "contact sheet", split).permutation(len(data))[:n])
    images = data.images(rows)
    captions = [_caption(dataset, split, int(row)) for row in rows]
    lines = max((len(body) for _, body in captions), default=0) + 1
    width, height = CELL + MARGIN, CELL + MARGIN + LINE * lines + MARGIN
    count = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * width + MARGIN, count * height + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(13), ImageFont.load_default(11)
    for i, (pixels, (title, body)) in enumerate(zip(images, captions, strict=True)):
        x, y = MARGIN + (i % columns) * width, MARGIN + (i // columns) * height
        sheet.paste(_fit(pixels), (x, y))
        y += CELL + 2
        pen.text((x, y), title, fill="black", font=bold)
        for number, line in enumerate(body, 1):
            pen.text((x, y + 2 + number * LINE), line, fill="#444444", font=small)
    with atomic_write(path) as temporary:
        sheet.save(temporary, format="PNG")
    return Path(path)


def _fit(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    if image.width > CELL:
        return image.resize((CELL, CELL), Image.Resampling.LANCZOS)
    # A whole factor and no smoothing: what is seen is what the tokenizer gets.
    side = image.width * (CELL // image.width)
    enlarged = image.resize((side, side), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (CELL, CELL), "white")
    cell.paste(enlarged, ((CELL - side) // 2, (CELL - side) // 2))
    return cell


def _caption(dataset: ImageDataset, split: str, row: int) -> tuple[str, list[str]]:
    data, info = dataset.split(split), dataset.info
    title = f"#{data.ids[row]}" if data.labels is None else info.classes[data.labels[row]]
    if data.attributes is None:
        return title, []
    names = [name for name, has in zip(info.attributes, data.attributes[row], strict=True) if has]
    return title, textwrap.wrap(", ".join(name.replace("_", " ") for name in names), CHARACTERS)


def prevalence(dataset: ImageDataset) -> pd.DataFrame:
    """Share of samples that have each attribute.

    Returns:
        one row per attribute in the data set's order (index "attribute"), one column per split, values in [0, 1];
        empty if the data set has no attributes.
    """
    columns = {
        name: split.attributes.mean(axis=0)
        for name, split in dataset.splits.items()
        if split.attributes is not None and len(split)
    }
    return pd.DataFrame(columns, index=pd.Index(dataset.info.attributes, name="attribute"))
