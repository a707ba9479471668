"""Which forms a report comes in, and text that is harmless in each."""

from collections.abc import Iterable, Sequence

from vaebench.core.errors import ConfigError, suggest

FORMATS = ("html", "md", "latex", "csv", "figures")
"""The page; a summary and model cards; tables for papers; tables for people and programs; figures as PNG and SVG."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "\N{MINUS SIGN}": r"$-$", "\N{EM DASH}": "---",
    "\N{DAGGER}": r"$^\dagger$", "\N{UPWARDS ARROW}": r"$\uparrow$", "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{GREEK SMALL LETTER RHO}": r"$\rho$", "\N{GREEK SMALL LETTER TAU}": r"$\tau$",
}  # fmt: skip
_MARKDOWN = set("\\`*_[]#|~$")
_HTML = "<>&@"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def checked_formats(wanted: Sequence[str]) -> list[str]:
    """The formats, each once; a text may name several, parted by commas.

    Raises:
        ConfigError: one that there is not, or none at all.
    """
    names = [name.strip().lower() for text in wanted for name in text.split(",") if name.strip()]
    aliases = {"markdown": "md", "tex": "latex"}
    names = list(dict.fromkeys(aliases.get(name, name) for name in names))
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"There is no report format '{name}'.", suggest(name, FORMATS))
    if not names:
        raise ConfigError("No report format was given.", f"Give one or more of {', '.join(FORMATS)}.")
    return names


def latex_text(text: object) -> str:
    """Text that LaTeX sets as it is and runs none of; control characters are dropped."""
    return "".join(_LATEX.get(c, c) for c in _printable(str(text)))


def markdown_text(text: object) -> str:
    """Text in one line that Markdown, and HTML within it, shows as it is."""
    shown = " ".join(_printable(str(text), keep=" \n\t").split())
    return "".join(f"&#{ord(c)};" if c in _HTML else f"\\{c}" if c in _MARKDOWN else c for c in shown)


def csv_text(text: str) -> str:
    """Text that a spreadsheet takes as text: where it would read a formula, an apostrophe comes first."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def file_name(text: str, taken: Iterable[str] = ()) -> str:
    """A name for a file out of any text, unlike those taken."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in text).strip("-.")[:60]
    name, stem, count, used = plain or "tokenizer", plain or "tokenizer", 2, {t.lower() for t in taken}
    while name.lower() in used:
        name, count = f"{stem}-{count}", count + 1
    return name


def _printable(text: str, keep: str = "") -> str:
    return "".join(c for c in text if c.isprintable() or c in keep)
