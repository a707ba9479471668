"""What the guide shows works as it stands."""

import re
from pathlib import Path

import pytest

from vaebench.core.errors import VaebenchError
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.check import check_tokenizer

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()


def test_the_tokenizer_of_the_guide_keeps_the_contract(tmp_path):
    code = re.search(r"```python\n(# mine\.py.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "mine.py").write_text(code.group(1))
    assert check_tokenizer(load_tokenizer(f"{tmp_path / 'mine.py'}:Blur"), 64) == []


def test_the_study_of_the_guide_is_valid(tmp_path):
    from vaebench.study.graph import build_graph
    from vaebench.study.spec import load_study

    text = re.search(r"```yaml\n(study: mine.*?)```", GUIDE, re.DOTALL).group(1)
    (tmp_path / "mine.yaml").write_text(text)
    spec = load_study(tmp_path / "mine.yaml")
    assert [entry.name for entry in spec.tokenizers] == ["kl-vae", "send-vae", "sd"]
    # Its last tokenizer is a folder that only the reader has.
    with pytest.raises(VaebenchError, match="sd-vae"):
        build_graph(spec)
