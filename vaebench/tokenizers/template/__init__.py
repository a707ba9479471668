"""A package with a tokenizer of one's own, to start from: module, test and pyproject with the entry point."""

import keyword
import re
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from vaebench.core.errors import ConfigError, VaebenchError
from vaebench.tokenizers import TOKENIZERS

# Template, and where it goes.
FILES = {
    "pyproject.toml.j2": "pyproject.toml",
    "init.py.j2": "{module}/__init__.py",
    "tokenizer.py.j2": "{module}/tokenizer.py",
    "test_tokenizer.py.j2": "tests/test_tokenizer.py",
}


def write_template(name: str, folder: Path) -> list[Path]:
    """Write a package with a working tokenizer called `name` into `folder`, and return its files.

    Raises:
        ConfigError: the name cannot name a package, or is registered already. VaebenchError: the folder has content.
    """
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise ConfigError(
            f"'{name}' cannot name a tokenizer.", "Use lower-case letters, digits and dashes: my-tokenizer."
        )
    if name in TOKENIZERS:
        raise ConfigError(f"A tokenizer '{name}' is registered already.", "Choose another name, or uninstall it.")
    if folder.exists() and any(folder.iterdir()):
        raise VaebenchError(f"'{folder}' is not empty.", "Choose another --output-dir.")
    texts = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # Python, not HTML
    words = {"name": name, "module": module, "class_name": "".join(part.capitalize() for part in name.split("-"))}
    written = []
    for template, target in FILES.items():
        path = folder / target.format(module=module)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.from_string(files(__name__).joinpath(template).read_text()).render(words))
        written.append(path)
    return written
