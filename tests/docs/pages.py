"""The pages, and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("tests/thirdparty/*/README.md"))]
HOW_TO = ROOT / "docs" / "how-to"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page):
    """Lines of a page that call vaebench, in code blocks."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^    (\S.*-m vaebench .*)$", page.read_text(), re.MULTILINE)
    found = [re.search(r"(?:^|\$head\" )(?:.*-m )?\s*vaebench (.*)", line.split("#")[0].strip()) for line in lines]
    return [f"vaebench {match[1].strip()}" for match in found if match]
