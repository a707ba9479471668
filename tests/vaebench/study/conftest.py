"""Studies of stages that do next to nothing, for what the engines do with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaebench.study.spec import StudySpec

STUBS = Path(__file__).parent / "stubs"


@pytest.fixture
def stub_graph(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """stub_graph(a={}, b={"needs": ["a"], "seconds": 0.1}) -> a graph of stub stages."""
    monkeypatch.syspath_prepend(str(STUBS))
    from stub_graph import StubGraph

    return lambda **nodes: StubGraph(nodes)


@pytest.fixture
def stub_spec(stub_graph: Any) -> StudySpec:
    from stub_graph import SPEC

    return SPEC
