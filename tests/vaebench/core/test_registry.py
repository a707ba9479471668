import pytest

from vaebench.core import registry as module
from vaebench.core.errors import PluginError, UnknownName, VaebenchError
from vaebench.core.registry import Registry


@pytest.fixture
def registry() -> Registry:
    return Registry("thing", "vaebench.test_group_that_nobody_fills")


def test_lazy_target_is_imported_on_use(registry):
    registry.register("fraction", "fractions:Fraction", summary="exact")
    from fractions import Fraction

    assert registry.get("fraction") is Fraction
    assert registry.names() == ["fraction"]
    assert "fraction" in registry


def test_misspelling_suggests(registry):
    registry.register("send-vae", object())
    with pytest.raises(UnknownName, match="Did you mean 'send-vae'"):
        registry.get("sendvae")


def test_unknown_lists_all_when_nothing_is_near(registry):
    registry.register("abc", object())
    with pytest.raises(UnknownName, match="Known: abc"):
        registry.get("zzzzzz")


def test_collision_names_both_packages(registry):
    registry.register("a", "x:A", package="one")
    registry.register("a", "x:A", package="one")
    with pytest.raises(VaebenchError, match=r"one \(x:A\) and two \(y:A\)"):
        registry.register("a", "y:A", package="two")


def test_a_collision_is_told_each_time_and_hides_no_other_name(monkeypatch):
    monkeypatch.setattr(module, "_PENDING", {"things": [("taken", "a:B", ""), ("other", "a:C", "")]})
    registry = Registry("thing", "vaebench.things")
    registry.register("taken", "x:Y", package="first")
    for _ in range(2):
        with pytest.raises(VaebenchError, match="Two packages register the thing 'taken'"):
            registry.names()


def test_broken_target_names_the_package(registry):
    registry.register("broken", "no_such_module_anywhere:X", package="theirs")
    with pytest.raises(VaebenchError, match="theirs"):
        registry.get("broken")
    (entry,) = registry.entries()
    assert entry.about().startswith("BROKEN: 'broken' of package theirs points at no_such_module_anywhere:X")


def test_a_strangers_module_may_raise_anything(registry, tmp_path, monkeypatch):
    (tmp_path / "raises_at_import.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    registry.register("theirs", "raises_at_import:X", package="their-package")
    with pytest.raises(PluginError, match=r"their-package.*ZeroDivisionError: division by zero"):
        registry.get("theirs")
    registry.register("ours", "raises_at_import:X")
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        registry.get("ours")


def test_lists_tell_what_a_class_says_of_itself(registry):
    registry.register("fraction", "fractions:Fraction", package="theirs")
    assert registry.entries()[0].about() == "This class implements rational numbers."
