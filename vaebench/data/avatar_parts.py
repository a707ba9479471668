"""Drawings of the package python-avatars, prepared once per process as short SVG text with colours left open.

The artist's files describe a coloured shape as "a mask of this path over a large rectangle of that colour". Rasterised
as they stand, every mask costs a layer of pixels. Here such a mask becomes the path itself in that colour, soft shadows
(filters) and screen-blended reflections are left out, and coordinates are rounded to hundredths of a unit. A picture
then takes a third of the time, and at 64 x 64 pixels nobody can tell.
"""

import functools
import re
import xml.etree.ElementTree as ET
from importlib.metadata import version

from vaebench.core.errors import DataError, MissingDependency
from vaebench.core.files import package_file

HREF = "xlink:href"

# Elements whose colour is chosen per sample, by the name of the colour that fills them.
COLOURED = {
    "Skin-Color": "skin",
    "Hair-Color": "hair",
    "Facial-Hair-Color": "beard",
    "Fabric-Color": "fabric",
}
# Groups that another part goes into.
SLOTS = {"Clothing", "Mouth", "Nose", "Eyes", "Eyebrow", "Top", "Facial-Hair", "Accessory"}


def source_version() -> str:
    """Versions of the two packages that determine every pixel."""
    return f"python-avatars {version('python-avatars')}, resvg-py {version('resvg-py')}"


@functools.cache
def part(folder: str, name: str) -> str:
    """SVG text of one part.

    Args:
        folder: below the package's ``avatar_parts``, such as "top/hair".
        name: file name without suffix.

    Returns:
        text in which ``{skin}``, ``{hair}``, ``{beard}`` and ``{fabric}`` stand for colours and ``{Top}``, ``{Eyes}``,
        ``{Facial-Hair}`` ... for the parts that go there: ready for ``str.format_map``.

    Raises:
        MissingDependency: python-avatars is not installed, or lacks the part.
    """
    path = package_file("python-avatars", f"avatar_parts/{folder}/{name}.svg")
    if path is None:
        raise MissingDependency(
            f"python-avatars has no part '{folder}/{name}'.", "Install it: pip install 'python-avatars>=1.4.1'"
        )
    return compile_part(path.read_text(encoding="utf-8"), f"{folder}-{name}-".replace("/", "-"))


def compile_part(svg: str, prefix: str) -> str:
    """Simplify one SVG document and return what is inside its root element.

    Args:
        svg: the document.
        prefix: put before every id, so that parts can be joined in one document.

    Raises:
        DataError: the document is not well-formed XML, or contains braces (they would be taken for placeholders).
    """
    if "{" in svg or "}" in svg:
        raise DataError(f"SVG part {prefix} contains braces.")
    try:
        root = ET.fromstring(svg)
    except ET.ParseError as error:
        raise DataError(f"SVG part {prefix} is not well-formed: {error}.") from error
    _drop_namespaces(root)
    _drop_effects(root)
    _flatten_masks(root)
    _open_colours_and_slots(root)
    _shorten(root, prefix)
    text = "".join(ET.tostring(child, encoding="unicode") for child in root)
    return re.sub(r">\s+<", "><", text).strip()


def _drop_namespaces(root: ET.Element) -> None:
    # Fragments carry plain names; the document that they are joined into declares the namespaces once.
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if key.startswith("{")]:
            value = element.attrib.pop(key)
            if key.endswith("}href"):
                element.set(HREF, value)


def _drop_effects(root: ET.Element) -> None:
    shadow_only = {f"url(#{f.get('id')})" for f in root.iter("filter") if f.find("feMerge") is None}
    for parent in root.iter():
        for child in list(parent):
            reflection = "mix-blend-mode" in child.get("style", "")
            if reflection or child.get("filter") in shadow_only or child.tag in ("filter", "title", "desc"):
                parent.remove(child)
            else:
                child.attrib.pop("filter", None)


def _mask_shapes(root: ET.Element) -> dict[str, str]:
    """Masks that are exactly one white path: reference to the mask -> reference to the path."""
    shapes = {}
    for mask in root.iter("mask"):
        content = list(mask)
        if len(content) == 1 and content[0].tag == "use" and set(content[0].attrib) <= {HREF, "id"}:
            shapes[f"url(#{mask.get('id')})"] = content[0].attrib[HREF]
    return shapes


def _only_a_rectangle(group: ET.Element) -> bool:
    leaves = [e for e in group.iter() if len(e) == 0]
    return len(leaves) == 1 and leaves[0].tag == "rect"


def _flatten_masks(root: ET.Element) -> None:
    shapes = _mask_shapes(root)
    for parent in root.iter():
        previous = None
        for child in list(parent):
            shape = shapes.get(child.get("mask", ""))
            if shape is not None and child.get("id") in COLOURED and _only_a_rectangle(child):
                if previous is not None and previous.get(HREF) == shape:
                    parent.remove(previous)  # it lies wholly under the new shape
                for grandchild in list(child):
                    child.remove(grandchild)
                del child.attrib["mask"]
                ET.SubElement(child, "use", {HREF: shape})
            previous = child


def _open_colours_and_slots(root: ET.Element) -> None:
    filled: set[str] = set()
    for element in root.iter():
        name = element.get("id", "")
        if name in COLOURED:
            element.set("fill", "{" + COLOURED[name] + "}")
        # Of two slots of one name (there is such a drawing) the first counts, as in the package itself.
        if name in SLOTS - filled and element.tag == "g" and len(element) == 0:
            element.text = "{" + name + "}"
            filled.add(name)


def _shorten(root: ET.Element, prefix: str) -> None:
    used = set(re.findall(r'(?:url\(|")#([^")]+)', ET.tostring(root, encoding="unicode")))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{prefix}{name}")
        for key, value in element.attrib.items():
            if key == HREF:
                element.set(key, value.replace("#", f"#{prefix}"))
            elif value.startswith("url(#"):
                element.set(key, value.replace("url(#", f"url(#{prefix}"))
            elif key in ("d", "points", "transform"):
                element.set(key, re.sub(r"-?\d*\.\d+(?:e-?\d+)?", _rounded, value))


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}".rstrip("0").rstrip(".")
