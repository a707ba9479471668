"""Every page: its links lead somewhere, its commands exist with the options shown, its code runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import vaebench
from vaebench.cli.app import app
from vaebench.core.errors import VaebenchError

sys.path.insert(0, str(Path(__file__).parent))
from pages import HOW_TO, PAGES, ROOT, blocks, commands

CPU = vaebench.Context(device="cpu", workers=1)
ALL = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), ALL, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_commands_exist_with_their_options(page, line):
    line = line.partition(">")[0].partition(" ...")[0].replace('"$head:6379"', "HEAD:6379")
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    if words and words[0].startswith("--"):  # options of vaebench itself
        known = {name for parameter in command.params for name in parameter.opts}
        assert words[0] in known
        words = words[1:] if words[0] == "--offline" else []
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            pytest.fail(f"{page.name}: no command '{words[0]}'")
        command = command.commands[words.pop(0)]
    if not hasattr(command, "commands"):
        assert command.make_context("vaebench", words).params is not None


def test_there_are_commands_on_every_guide():
    assert len(ALL) > 60
    for page in [ROOT / "docs" / "getting-started.md", *HOW_TO.glob("*.md")]:
        assert commands(page), page


def anchor(title):
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if target.startswith(("http", "mailto:")):
            continue
        path, _, part = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page}: {target}"
        if part:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert part in map(anchor, titles), f"{page}: {target}"


def test_every_page_can_be_found():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    }
    for page in (ROOT / "docs").rglob("*.md"):
        assert page in linked or page.name == "README.md", page


def test_every_picture_of_the_concepts_is_shown_and_drawn_by_the_script():
    folder = ROOT / "docs" / "concepts"
    shown = set(re.findall(r"\]\(([\w-]+\.png)\)", (folder / "README.md").read_text()))
    drawn = {
        f"{name}.png" for name in re.findall(r'save\(figure, "([\w-]+)"\)', (folder / "make_pictures.py").read_text())
    }
    assert shown == drawn == {path.name for path in folder.glob("*.png")}


@pytest.fixture
def written(tmp_path, monkeypatch, forgetful):
    """The code blocks of the how-to guides that begin with a file name, as files in the working folder."""
    for page in HOW_TO.glob("*.md"):
        for block in blocks(page, "python"):
            if name := re.match(r"# (\w+\.py)\n", block):
                (tmp_path / name[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_the_guides_works(written):
    from vaebench.tokenizers import load_method, load_tokenizer
    from vaebench.tokenizers.check import check_tokenizer

    assert check_tokenizer(load_tokenizer("mine.py:Blur"), 64) == []
    assert load_method("method.py:Align", {"weight": 0.5}).needs_teacher
    data = vaebench.prepare_data("source.py:Levels", "runs/levels", {"image_size": 32}, CPU)
    split = vaebench.open_data(data / "data.h5").split("train")
    assert (split.in_memory().mean((1, 2, 3)) > 100).tolist() == split.attributes[:, 0].tolist()
    latents = vaebench.extract("mine.py:Blur", data, "runs/blur-latents", context=CPU)
    scores = vaebench.score(latents, "runs/scores", metrics=["sparsity.py:Sparsity"], context=CPU)
    assert 0 < scores[0].value < 1
    result = CliRunner().invoke(app, ["score", "runs/blur-latents", "--plugin", "plugin.py", "--metrics", "energy"])
    assert result.exit_code == 0, result.output
    assert "energy" in result.output


def test_the_study_of_the_guide_is_valid(tmp_path):
    from vaebench.study.graph import build_graph
    from vaebench.study.spec import load_study

    (tmp_path / "mine.yaml").write_text(blocks(HOW_TO / "studies.md", "yaml")[0])
    spec = load_study(tmp_path / "mine.yaml")
    assert [entry.name for entry in spec.tokenizers] == ["kl-vae", "send-vae", "sd"]
    with pytest.raises(VaebenchError):  # its photographs and its last tokenizer are the reader's
        build_graph(spec)


def test_the_reference_is_that_of_the_code():
    # In a process of its own: other tests register plug-ins.
    code = (
        "import runpy, sys; m = runpy.run_path(sys.argv[1]);"
        "print(*(name for name in m['PAGES'] if (m['FOLDER'] / name).read_text() != m['page'](name)))"
    )
    command = [sys.executable, "-c", code, str(ROOT / "docs" / "make_reference.py")]
    stale = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not stale, f"{stale}: run python docs/make_reference.py"
