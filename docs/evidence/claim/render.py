"""The claim's evidence: its figures and every result in its text, from the committed tables alone.

    python docs/evidence/claim/render.py --collect avatars runs/avatars-claim   # the tables, out of a finished study
    python docs/evidence/claim/render.py       # figures, both pages, and the finding on the front page

`README.md` and `tables.md` are `README.md.j2` and `tables.md.j2` with numbers put in; a test renders them anew.
"""

import argparse
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import jinja2
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))  # also where it is not run as a script

from front import fill
from study_figures import forest_figure, main_figure, write_figure
from study_tables import CLAIMED, HERE, KEEP, OWN, PER_SEED, REAL, Study, named, text

from vaebench.core.files import write_json
from vaebench.study.index import read_index
from vaebench.study.slim import slim

PAGES = ("README.md", "tables.md")
BEGIN, END = "<!-- finding of the claim's study -->", "<!-- end of the finding -->"
DRAWN = "avatars"
"""The study that has figures."""
LARGEST = 16 * 1024
"""Bytes of a stage's file beyond which the archive of the study leaves it out."""


def studies() -> dict[str, Study]:
    """The studies whose tables are here, by folder."""
    return {path.parent.name: Study(path.parent.name) for path in sorted(HERE.glob("*/comparison.csv"))}


def environment(made: dict[str, Study]) -> jinja2.Environment:
    """Templates beside this file; a name that is not known is an error."""
    loader = jinja2.FileSystemLoader(HERE)
    found = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    found.globals |= {**made, "named": named, "text": text, "claimed": CLAIMED, "real": REAL, "own": OWN}
    return found


def render(page: str, made: dict[str, Study]) -> str:
    """The text of one of `PAGES`."""
    return environment(made).get_template(f"{page}.j2").render(finding=sentence(made))


def sentence(made: dict[str, Study]) -> str:
    """The finding in one sentence, which the front page quotes."""
    return environment(made).get_template("finding.md.j2").render().strip()


def collect(name: str, run: Path) -> None:
    """Take the tables out of a finished study, small: scores without those per attribute, six significant digits."""
    import reports

    target = HERE / name
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        reports.make_report([run], folder, formats=["csv"])
        tables = Path(folder) / "tables"
        comparison = pd.read_csv(tables / "comparison.csv", keep_default_na=False)
        _write(comparison[comparison["attribute"] == ""][KEEP], target / "comparison.csv")
        runs = pd.read_csv(tables / "scores.csv", keep_default_na=False)
        runs = runs[(runs["attribute"] == "") & runs["metric"].isin(PER_SEED)]
        _write(runs[["label", "seed", "metric", "vectorisation", "budget", "value"]], target / "runs.csv")
        _write(pd.read_csv(tables / "tokenizers.csv"), target / "tokenizers.csv")
        shutil.copyfile(tables / "protocols.json", target / "protocols.json")
    index = read_index(run)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(target / "study.tar.xz", "w:xz") as archive:
        slim(run, index, Path(folder) / run.name, LARGEST)
        for path in Path(folder).rglob("stage.json"):  # where the inputs lay is nobody else's business
            path.write_text(path.read_text().replace(f"{run.resolve()}/", ""))
        archive.add(Path(folder) / run.name, run.name)
    stages = pd.DataFrame(index.pop("stages")).groupby("kind", as_index=False)["seconds"].sum()
    _write(stages, target / "cost.csv")
    earlier = json.loads((target / "index.json").read_text()) if (target / "index.json").exists() else {}
    machines = [machine for machine in earlier.get("machines", []) if machine != index["machine"]]
    write_json(target / "index.json", {**index, "machines": [*machines, index["machine"]]})


def _write(table: pd.DataFrame, path: Path) -> None:
    numbers = {
        name: pd.to_numeric(table[name]).map(lambda value: float(f"{value:.6g}"))
        for name in ("value", "low", "high", "seconds")
        if name in table
    }
    table.assign(**numbers).to_csv(path, index=False)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", nargs=2, metavar=("NAME", "RUN"), help="copy the tables of a finished study")
    given = parser.parse_args()
    if given.collect:
        collect(given.collect[0], Path(given.collect[1]))
        return
    made = studies()
    write_figure(main_figure(made[DRAWN]), f"{DRAWN}-main")
    write_figure(forest_figure(made[DRAWN]), f"{DRAWN}-scores")
    for page in PAGES:
        (HERE / page).write_text(render(page, made))
    fill(BEGIN, f"{sentence(made)}.", END)


if __name__ == "__main__":
    main()
