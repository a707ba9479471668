"""The page on the paper's studies names every study, every file that they ask for, and the cost that plan gives."""

import re
from pathlib import Path

import pytest

from vaebench.core.config import with_overrides
from vaebench.study.graph import build_graph
from vaebench.study.reading import read_study, shipped
from vaebench.study.spec import load_study

PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text()
STUDIES = [name for name in shipped() if name.startswith("paper-")]


def texts(value):
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", STUDIES)
def test_studies_and_their_files_are_named(name):
    assert f"| `{name}` |" in PAGE
    for path in (Path(text) for text in texts(read_study(name)) if text.startswith(("./data/", "./weights/"))):
        known = path.name if path.suffix != ".safetensors" else "MODEL.safetensors"
        short = re.sub("^in-vae(?=-f16d(32|64))", "", known)  # in-vae-f16d16, -f16d32, -f16d64
        assert f"`{known}`" in PAGE or f"`{short}`" in PAGE or f"`{known}/" in PAGE, path


def test_the_settings_in_its_commands_exist():
    overrides = [part for part in re.findall(r"-o ([\w.]+=[\w\[\],]+)", PAGE) if "=N" not in part]
    assert "generate.settings.sampler.mixed_precision=bf16" in overrides
    spec = load_study("paper-table1", overrides)
    assert spec.seeds == (0, 1, 2)
    assert build_graph(spec, tolerant=True)
    assert with_overrides({}, overrides)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_costs_are_those_of_plan(name, tmp_path):
    from vaebench.study.cost import gpu_named
    from vaebench.study.plan import Assumptions, plan

    lines = plan(build_graph(load_study(name), tolerant=True), tmp_path, "cpu")
    hours, disk = re.search(rf"\| `{name}` \|.*\| ([\d,]+) \| ([\d.]+) TiB \|", PAGE).groups()
    assumed = Assumptions(gpu_named("h100"), 0.35)
    assert sum(assumed.hours(line.work) for line in lines) == pytest.approx(int(hours.replace(",", "")), rel=0.02)
    assert sum(line.disk_bytes for line in lines) / 2**40 == pytest.approx(float(disk), abs=0.06)
