"""Files from elsewhere: they run nothing, lead nowhere outside their folder, and show up as text."""

import csv
import os
import pickle
import subprocess
import sys

import pytest
import torch
import yaml

from vaebench.core.config import read_yaml, with_overrides
from vaebench.core.errors import ConfigError, DataError, MissingWeights, VaebenchError
from vaebench.study.graph import build_graph
from vaebench.study.spec import load_study
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.convert import read_tensors

STUDY = {"study": "s", "data": {"options": {"image_size": 32}}, "tokenizers": [{"name": "a", "method": "kl-vae"}]}


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.mark.parametrize("name", ["weights.pt", "weights.ckpt", "weights.bin", "weights.safetensors"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name):
    marker = tmp_path / "ran"
    (tmp_path / name).write_bytes(pickle.dumps({"weight": Bomb(marker)}))
    with pytest.raises(DataError):
        read_tensors(tmp_path / name)
    torch.save({"weight": Bomb(marker)}, tmp_path / "zip.pt")
    with pytest.raises(DataError, match="more than tensors"):
        read_tensors(tmp_path / "zip.pt")
    assert not marker.exists()


@pytest.mark.parametrize("text", [
    "study: !!python/object/apply:os.system ['touch {marker}']", "a: !!python/name:os.system",
    "!!python/object/new:os.system ['touch {marker}']", "a: !!python/module:os",
])  # fmt: skip
def test_yaml_makes_plain_values_only(tmp_path, text):
    marker = tmp_path / "ran"
    (tmp_path / "s.yaml").write_text(text.format(marker=marker))
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(tmp_path / "s.yaml")
    with pytest.raises(ConfigError, match="not valid YAML"):
        with_overrides({}, [f"a={text.partition(': ')[2] or text}"])
    assert not marker.exists()


def test_code_beside_weights_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name in ("tokenizer.py", "__init__.py", "modeling.py", "conftest.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w')\n")
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}, "_class_name": "AutoencoderKL"}')
    with pytest.raises(VaebenchError):
        load_tokenizer(str(folder))
    assert not marker.exists()


def test_plug_ins_that_nobody_named_are_not_run(tmp_path):
    marker = tmp_path / "ran"
    for name in ("vaebench_plugin.py", "plugin.py", "tokenizers.py", "sitecustomize.py"):
        (tmp_path / name).write_text(f"open({str(marker)!r}, 'w')\n")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    command = [os.path.join(os.path.dirname(sys.executable), "vaebench"), "study", "run", "mine.yaml", "--dry-run"]
    done = subprocess.run([*command, "--device", "cpu"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train-a-s0" in done.stdout
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", "a\nb", "a\x1b[31m", "x" * 300])
@pytest.mark.parametrize("where", ["tokenizers", "probe_data", "backbones"])
def test_names_in_a_study_file_cannot_leave_its_folder(tmp_path, name, where):
    study = {**STUDY, "sit": {"network": {"width": 32, "depth": 1, "heads": 2}}}
    match where:
        case "tokenizers":
            study["tokenizers"] = [{"name": name, "method": "kl-vae"}]
        case "probe_data":
            study["probe_data"] = {name: {"options": {"image_size": 32}}}
        case "backbones":
            study |= {"backbones": {name: {}}, "tokenizers": [{**STUDY["tokenizers"][0], "backbones": [name]}]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    spec = load_study(tmp_path / "s.yaml")
    if name == "..":  # harmless within a longer name
        assert all((tmp_path / "stages").resolve() == folder.resolve().parent
                   for folder in build_graph(spec).folders(tmp_path).values())  # fmt: skip
        return
    with pytest.raises(ConfigError, match="cannot name a folder"):
        build_graph(spec)


def test_the_folder_of_a_study_that_names_others_removes_nothing_of_them(tmp_path):
    from vaebench.study.clean import clean

    root, outside = tmp_path / "run", tmp_path / "outside"
    (root / "stages").mkdir(parents=True)
    outside.mkdir()
    (outside / "dear.txt").write_text("x")
    entry = {"folder": "../outside", "hash": "0" * 16, "id": "a", "kind": "train"}
    (root / "stages" / ".link.tmp").symlink_to(outside)
    clean(root, {"stages": [entry, {**entry, "folder": str(outside)}]})
    assert (outside / "dear.txt").read_text() == "x"


def test_reports_show_names_as_text():
    from reports.formats import csv_text, file_name, latex_text, markdown_text

    for formula in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")'):
        assert next(csv.reader([csv_text(formula).replace("\r", " ")]))[0].startswith("'")
    assert csv_text("kl-vae") == "kl-vae"
    for evil in (r"\input{/etc/passwd}", r"\write18{rm}", "$x$", "a_b", "50%", "{", "^^5c"):
        shown = latex_text(evil)
        bare = shown.replace(r"\textbackslash{}", "").replace(r"\textasciicircum{}", "")
        assert "\\input" not in shown
        assert "\\write" not in shown
        assert not set("$%_{}^") & set(bare.replace(r"\$", "").replace(r"\%", "").replace(r"\_", "")
                                       .replace(r"\{", "").replace(r"\}", ""))  # fmt: skip
    assert "<" not in markdown_text("<script>alert(1)</script>")
    assert "\\`" in markdown_text("`x`")
    assert not {"/", "\\"} & set(file_name("../../etc/passwd"))


def test_downloads_are_off_when_the_user_says_so_and_pinned_weights_are_checked(tmp_path, monkeypatch):
    from vaebench.vision import inception

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeights):
        load_tokenizer("owner/name@0123456789abcdef")
    asked = {}
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path, **words: asked.update(words, url=url))
    inception._weights(inception.InceptionConfig(download=True))
    assert asked["url"].startswith("https://")
    assert len(asked["hash_prefix"]) >= 8
    asked.clear()
    with pytest.raises(MissingWeights, match="not at"):
        inception._weights(inception.InceptionConfig())
    assert not asked
