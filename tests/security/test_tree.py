"""Reads every line of the packages: nothing unpickles, evaluates text, loads YAML unsafely, or runs a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for package in ("vaebench", "sendvae", "baselines", "reports") for path in (ROOT / package).rglob("*.py")
)
PICKLES = frozenset(
    {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
)
# The one name of pickle's that may be used: what torch raises when it refuses a file.
ALLOWED_OF_PICKLE = frozenset({"UnpicklingError"})
# Where code that the user names is run, and nowhere else.
RUNS_NAMED_CODE = frozenset({"vaebench/core/plugins.py"})


def faults(source: str, name: str = "x.py") -> Iterator[str]:
    """What this source must not do."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"{line}: {fault}" for fault in _imports(node))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PICKLES:
            if node.attr not in ALLOWED_OF_PICKLE:
                yield f"{line}: uses {node.value.id}.{node.attr}"
        elif isinstance(node, ast.Attribute) and node.attr == "exec_module" and name not in RUNS_NAMED_CODE:
            yield f"{line}: runs a module by its path"
        elif isinstance(node, ast.Call):
            yield from (f"{line}: {fault}" for fault in _call(node))


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        if (node.module or "").split(".")[0] in PICKLES and {alias.name for alias in node.names} - ALLOWED_OF_PICKLE:
            yield f"imports from {node.module}"
        return
    for alias in node.names:
        if alias.name.split(".")[0] in PICKLES - {"pickle"}:
            yield f"imports {alias.name}"


def _call(node: ast.Call) -> Iterator[str]:
    words = {keyword.arg: keyword.value for keyword in node.keywords}

    def says(word: str, value: object) -> bool:
        found = words.get(word)
        return isinstance(found, ast.Constant) and found.value is value

    called = ast.unparse(node.func)
    if called in {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "tempfile.mktemp"}:
        yield f"calls {called}"
    if called in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"}:
        yield f"calls {called}"
    if called == "torch.load" and not says("weights_only", True):
        yield "calls torch.load without weights_only=True"
    if called in {"np.load", "numpy.load"} and not says("allow_pickle", False):
        yield "calls numpy.load without allow_pickle=False"
    if called.endswith(("read_pickle", "to_pickle", "extractall", "unpack_archive")):
        yield f"calls {called}"
    if "shell" in words and not says("shell", False):
        yield "runs a shell"
    if "trust_remote_code" in words and not says("trust_remote_code", False):
        yield "trusts remote code"
    if called.startswith(("pd.eval", "pandas.eval")) or (called.endswith(".query") and node.args):
        yield f"evaluates text with {called}"


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])
def test_nothing_in_the_packages_runs_what_it_reads(path):
    assert list(faults(path.read_text(), path.relative_to(ROOT).as_posix())) == []


@pytest.mark.parametrize("source", [
    "import dill", "from pickle import loads", "import pickle\npickle.load(f)", "eval('1')", "exec(text)",
    "yaml.load(text)", "torch.load(path)", "torch.load(path, weights_only=False)", "torch.load(p, weights_only=flag)",
    "np.load(path)", "np.load(path, allow_pickle=True)", "subprocess.run(text, shell=True)", "os.system('x')",
    "archive.extractall(x)", "AutoModel.from_pretrained(x, trust_remote_code=True)", "spec.loader.exec_module(m)",
    "pd.read_pickle(x)", "df.query(x)",
])  # fmt: skip
def test_the_scan_finds_what_it_looks_for(source):
    assert len(list(faults(source))) == 1


@pytest.mark.parametrize("source", [
    "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pass", "torch.load(path, weights_only=True)",
    "network.eval()", "yaml.safe_load(text)", "np.load(p, allow_pickle=False)", "subprocess.run(['a'])",
])  # fmt: skip
def test_the_scan_lets_pass_what_is_safe(source):
    assert list(faults(source)) == []
