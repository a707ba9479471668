import pytest

from vaebench.core.errors import ConfigError, MissingPath
from vaebench.study.spec import StudySpec, load_study, shipped


def test_every_shipped_study_is_valid_and_named_like_its_file():
    assert "quickstart" in shipped()
    for name in shipped():
        assert load_study(name).study == name


def test_misspelt_study_suggests():
    with pytest.raises(MissingPath, match="Did you mean 'quickstart'"):
        load_study("quikstart")


@pytest.mark.parametrize(("tokenizers", "message"), [
    ([], "at least one tokenizer"),
    ([{"name": "a", "method": "kl-vae"}, {"name": "a", "method": "kl-vae"}], "must differ"),
    ([{"name": "a"}], "either method"),
    ([{"name": "a", "method": "kl-vae", "load": "x"}], "either method"),
    ([{"name": "a", "methd": "kl-vae"}], "Did you mean 'method'"),
    ([{"name": "a", "load": "dct", "options": {"f": 8}}], "options would do nothing.* go into load, such as 'dct.f=8"),
    ([{"name": "a", "load": "dct", "training": {"steps": 1}, "init": "b"}], "init, training would do nothing"),
    ([{"name": "a", "load": "dct", "teacher": "b"}], "teacher would do nothing"),
    ([{"name": "a", "method": "kl-vae", "init": "b", "network": "tiny"}], "network of its start 'b'"),
])  # fmt: skip
def test_tokenizers_that_make_no_sense(tokenizers, message):
    from vaebench.core.config import build

    with pytest.raises(ConfigError, match=message):
        build(StudySpec, {"study": "x", "tokenizers": tokenizers})


def test_overrides_reach_into_the_file(smoke_file):
    spec = load_study(smoke_file, ["training.steps=7", "seeds=[1,2]"])
    assert spec.training["steps"] == 7
    assert spec.seeds == (1, 2)
