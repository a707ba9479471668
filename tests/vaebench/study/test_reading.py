import pytest
import yaml

from vaebench.core.errors import ConfigError, MissingPath
from vaebench.study.reading import merged, read_study


@pytest.fixture
def write(tmp_path):
    def writer(name, **values):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(values))
        return path

    return writer


def test_mappings_merge_all_the_way_down_and_everything_else_is_replaced():
    below = {"a": {"b": 1, "c": {"d": 2}}, "list": [1, 2], "kept": 3}
    above = {"a": {"c": {"e": 4}}, "list": [5], "a2": None}
    assert merged(below, above) == {"a": {"b": 1, "c": {"d": 2, "e": 4}}, "list": [5], "kept": 3, "a2": None}
    assert below == {"a": {"b": 1, "c": {"d": 2}}, "list": [1, 2], "kept": 3}


def test_options_belong_to_a_name():
    below = {"name": "inception", "options": {"weights": "x"}, "other": 1}
    assert merged(below, {"name": "mobilenetv2"}) == {"name": "mobilenetv2", "other": 1}
    assert merged(below, {"name": "inception"}) == below


def test_a_file_stands_above_what_it_extends_and_later_files_above_earlier(write):
    write("base.yaml", study="base", seeds=[1], sit={"preset": "nano", "batch_size": 8})
    write("deep/other.yaml", extends="../base.yaml", sit={"batch_size": 4}, title="other")
    top = write("top.yaml", extends=["base.yaml", "deep/other.yaml"], study="top")
    assert read_study(top) == {
        "study": "top", "seeds": [1], "sit": {"preset": "nano", "batch_size": 4}, "title": "other",
    }  # fmt: skip


def test_a_study_that_ships_can_be_extended_by_name(write):
    values = read_study(write("mine.yaml", extends="quickstart", study="mine", seeds=[7]))
    assert (values["study"], values["seeds"], values["data"]["name"]) == ("mine", [7], "avatars")


def test_a_circle_of_files_is_refused(write):
    write("a.yaml", extends="b.yaml")
    with pytest.raises(ConfigError, match="circle"):
        read_study(write("b.yaml", extends="a.yaml"))


def test_extending_what_is_not_there_suggests(write):
    with pytest.raises(MissingPath, match="Did you mean 'quickstart'"):
        read_study(write("a.yaml", extends="quikstart"))


def test_paths_by_name_after_overrides(write):
    file = write(
        "a.yaml",
        paths={"weights": "./w", "data": "./d"},
        tokenizers=[{"name": "a", "load": "$weights/vae"}],
        data={"options": {"root": "$data", "note": "costs $5"}},
    )
    assert read_study(file, ["paths.weights=/big"]) == {
        "tokenizers": [{"name": "a", "load": "/big/vae"}],
        "data": {"options": {"root": "./d", "note": "costs $5"}},
    }


def test_a_path_of_unknown_name_suggests(write):
    with pytest.raises(ConfigError, match="Did you mean 'weights'"):
        read_study(write("a.yaml", paths={"weights": "w"}, x="$wieghts/vae"))
    with pytest.raises(ConfigError, match="must map names to paths"):
        read_study(write("b.yaml", paths=["w"]))
