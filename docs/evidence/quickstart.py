"""The quickstart's evidence: its committed tables, and the results that the front page takes from them.

    python docs/evidence/quickstart.py --collect quickstart runs/quickstart   # out of a finished quickstart
    python docs/evidence/quickstart.py                                        # the table on the front page

The first copies tables and takes a picture of the report, with Chromium and its driver (apt-get install chromium
chromium-driver).

A test renders the front page's table anew, and finds every other number with an interval in the committed tables.
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # also where it is not run as a script

from front import fill

from reports.names import metric_name

HERE = Path(__file__).parent
BEGIN, END = "<!-- results of the quickstart -->", "<!-- end of the results -->"
VIEW, SHRUNK = (1120, 1500), 0.75
"""Pixels of one view of the report as the page counts them, and how many of the picture's stand for one."""
BAR = 60
"""Pixels that the bar of sections covers."""
SHOWN = {
    "psnr": "PSNR, dB", "ssim": "SSIM", "rfid": "rFID", "probe_macro_f1 [flattened]": "probe macro-F1, flattened",
    "probe_macro_f1 [pooled]": "probe macro-F1, pooled", "gfid": "gFID to real images",
    "gfid_vs_reconstructions": "gFID to own reconstructions",
}  # fmt: skip
"""Scores on the front page."""
DIGITS = {"rfid": 0, "gfid": 0, "gfid_vs_reconstructions": 0}
"""Digits after the point, where Fréchet distances are so large that those of the report are noise."""


def scores(folder: Path) -> dict[str, dict[str, str]]:
    """Score -> tokenizer -> value with its 95% interval as text, of a folder with tables. Budgets are not named."""
    wide = pd.read_csv(folder / "wide.csv").set_index("tokenizer")
    found: dict[str, dict[str, str]] = {}
    for low in (name for name in map(str, wide) if name.endswith(" low")):
        column = low.removesuffix(" low")
        metric = column.partition(" [")[0]
        score = metric if "steps=" in column else column
        digits = DIGITS.get(metric, metric_name(metric).digits)
        rows = wide[[column, low, f"{column} high"]].dropna()
        found[score] = {
            tokenizer: "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*values, d=digits)
            for tokenizer, *values in rows.itertuples()
        }
    return found


def table(folder: Path) -> str:
    """The front page's table, in Markdown."""
    wide = scores(folder)
    tokenizers = list(wide["psnr"])
    lines = [["", *tokenizers], ["---"] * (len(tokenizers) + 1)]
    lines += [[label, *(wide[score].get(name, "") for name in tokenizers)] for score, label in SHOWN.items()]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in lines)


def collect(name: str, run: Path) -> None:
    """Copy the tables that a finished quickstart's report made, and take its picture."""
    target = HERE / name
    target.mkdir(exist_ok=True)
    shutil.copyfile(run / "index.json", target / "index.json")
    for table_name in ("wide.csv", "protocols.json"):
        shutil.copyfile(run / "report" / "tables" / table_name, target / table_name)
    picture(run / "report" / "report.html", target / "report.png")


def picture(page: Path, path: Path) -> None:
    """Views of a report side by side: its top, and from its reconstructions on."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        screen = {"width": VIEW[0], "height": VIEW[1], "deviceScaleFactor": SHRUNK, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(page.resolve().as_uri())
        views: list[Image.Image] = []
        for section in ("answer", "reconstructions"):  # the first has the page's heading above it
            top = browser.execute_script("return document.getElementById(arguments[0]).offsetTop", section)
            browser.execute_script("scrollTo({top: arguments[0], behavior: 'instant'})", top - BAR if views else 0)
            views.append(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    finally:
        browser.quit()
    width, height = views[0].size
    joined = Image.new("RGB", (2 * width, height))
    for place, view in enumerate(views):
        joined.paste(view, (place * width, 0))
    joined.save(path, optimize=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", nargs=2, metavar=("NAME", "RUN"), help="copy the tables of a finished quickstart")
    given = parser.parse_args()
    if given.collect:
        collect(given.collect[0], Path(given.collect[1]))
        return
    fill(BEGIN, table(HERE / "quickstart"), END)


if __name__ == "__main__":
    main()
