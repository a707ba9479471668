import pytest

from vaebench.core.config import Config, build, content_hash, load, with_overrides
from vaebench.core.errors import ConfigError, MissingPath


class Inner(Config):
    steps: int = 10
    rate: float = 1e-3


class Outer(Config):
    name: str = "x"
    inner: Inner = Inner()


def test_override_reaches_nested_values_and_reads_numbers():
    config = load(Outer, overrides=["inner.steps=20", "inner.rate=1e-4", "name=1x"])
    assert config.inner.steps == 20
    assert config.inner.rate == 1e-4
    assert config.name == "1x"


def test_override_wins_over_file_and_keeps_the_rest(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: from-file\ninner:\n  steps: 3\n  rate: 0.5\n")
    config = load(Outer, path, ["inner.steps=4"])
    assert (config.name, config.inner.steps, config.inner.rate) == ("from-file", 4, 0.5)


@pytest.mark.parametrize(("values", "message"), [
    ({"inner": {"stepz": 1}}, "unknown key 'inner.stepz'. Did you mean 'steps'"),
    ({"nam": 1}, "unknown key 'nam'. Did you mean 'name'"),
    ({"inner": {"steps": "many"}}, "'inner.steps'.*got 'many'"),
])  # fmt: skip
def test_faults_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        build(Outer, values, "test")


@pytest.mark.parametrize("override", ["steps", "=3", "name.x.y=1"])
def test_malformed_overrides(override):
    with pytest.raises(ConfigError):
        with_overrides({"name": "text"}, [override])


def test_overrides_do_not_touch_their_input():
    values = {"inner": {"deep": {"a": 1}}}
    assert with_overrides(values, ["inner.deep.a=2"]) == {"inner": {"deep": {"a": 2}}}
    assert values == {"inner": {"deep": {"a": 1}}}


def test_missing_and_malformed_files(tmp_path):
    with pytest.raises(MissingPath, match="does not exist"):
        load(Outer, tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="mapping"):
        load(Outer, tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(Outer, tmp_path / "bad.yaml")


def test_content_hash_ignores_key_order_and_sees_values():
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash(Outer()) != content_hash(Outer(name="y"))
