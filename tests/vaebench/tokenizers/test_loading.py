import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaebench.core.errors import ConfigError, DataError, MissingPath, PluginError, UnknownName
from vaebench.tokenizers import TOKENIZERS, load_method, load_tokenizer
from vaebench.tokenizers.autoencoder import DiffusersTokenizer, build_autoencoder
from vaebench.tokenizers.base import Tokenizer
from vaebench.tokenizers.check import check_tokenizer, smooth_images
from vaebench.tokenizers.method import Method

STRANGER = '''
import torch
from torch.nn import functional
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec, check_images

class SpaceToDepth(Tokenizer):
    """No network at all: latents are the pixels of each f x f block."""

    def __init__(self, f: int = 4) -> None:
        self.f = f

    @property
    def spec(self):
        return TokenizerSpec(name="space-to-depth", method="", f=self.f, d=3 * self.f**2, checkpoint_hash=f"f{self.f}")

    def encode(self, images):
        check_images(images, self.f)
        mean = functional.pixel_unshuffle(images, self.f)
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents):
        return functional.pixel_shuffle(latents, self.f)

class Unfinished(Tokenizer):
    pass

class Needy(SpaceToDepth):
    def __init__(self, f):
        self.f = f + ""
'''


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    path = tmp_path / "stranger.py"
    path.write_text(STRANGER)
    return path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    entries = {entry.name: entry for entry in TOKENIZERS.entries()}
    monkeypatch.setattr(TOKENIZERS, "_entries", entries)


def test_a_strangers_file_loads_and_passes_the_check(stranger: Path) -> None:
    tokenizer = load_tokenizer(f"{stranger}:SpaceToDepth")
    assert check_tokenizer(tokenizer, 32) == []
    assert load_tokenizer(f"{stranger}:SpaceToDepth", f=8).spec.d == 192
    # One module per file, so that classes of two loads are the same.
    assert type(load_tokenizer(f"{stranger}:SpaceToDepth")) is type(tokenizer)


def test_a_strangers_module_loads(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(stranger.parent)
    assert isinstance(load_tokenizer("stranger:SpaceToDepth"), Tokenizer)


def test_what_a_stranger_can_get_wrong_is_named(stranger: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'SpaceToDepth'"):
        load_tokenizer(f"{stranger}:SpaceToDepht")
    with pytest.raises(ConfigError, match=r"does not define decode, encode, spec"):
        load_tokenizer(f"{stranger}:Unfinished")
    with pytest.raises(ConfigError, match="unexpected keyword argument 'g'"):
        load_tokenizer(f"{stranger}:SpaceToDepth", g=2)
    with pytest.raises(ConfigError, match=r"\(none\): missing a required argument: 'f'"):
        load_tokenizer(f"{stranger}:Needy")
    with pytest.raises(TypeError, match="unsupported operand"):  # a fault of that class, not of the options
        load_tokenizer(f"{stranger}:Needy?f=8")
    with pytest.raises(ConfigError, match=r"value of 'f' .* not valid YAML"):
        load_tokenizer(f"{stranger}:SpaceToDepth?f=[8")
    with pytest.raises(MissingPath, match=r"nowhere\.py' does not exist"):
        load_tokenizer("nowhere.py:Thing")
    with pytest.raises(UnknownName, match=r"'no_such_module_at_all' of .* is not installed"):
        load_tokenizer("no_such_module_at_all:Thing")
    with pytest.raises(ConfigError, match="not a Tokenizer class"):
        load_tokenizer("pathlib:Path")


def test_a_missing_import_inside_a_strangers_module_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'needy' cannot be .* no_such_module_at_all|no_such_module_at_all.*line 1"):
        load_tokenizer("needy:Thing")


@pytest.mark.parametrize("method", ["kl-vae", "a method that is not installed", ""])
def test_a_training_folder_loads(tmp_path: Path, method: str) -> None:
    tokenizer = build_autoencoder("nano", torch.Generator().manual_seed(0), method=method)
    tokenizer.save(tmp_path / "run" / "tokenizer")
    for ref in (tmp_path / "run", str(tmp_path / "run" / "tokenizer")):
        loaded = load_tokenizer(ref)
        assert isinstance(loaded, DiffusersTokenizer)
        assert loaded.spec == tokenizer.spec
    with pytest.raises(ConfigError, match="takes no options"):
        load_tokenizer(tmp_path / "run", f=8)


@pytest.mark.usefixtures("registry")
def test_a_method_may_load_its_own_kind_of_tokenizer(stranger: Path, tmp_path: Path) -> None:
    made = load_tokenizer(f"{stranger}:SpaceToDepth")

    class Own(Method):
        name = "own-kind"
        summary = "saves in its own way"

        def objective(self, *arguments: object) -> None:
            return None

        @classmethod
        def load(cls, folder: Path) -> Tokenizer:
            return made

    TOKENIZERS.register("own-kind", Own)
    (tmp_path / "tokenizer.json").write_text('{"method": "own-kind"}')
    assert load_tokenizer(tmp_path) is made


@pytest.mark.usefixtures("registry")
def test_a_registered_class_may_say_how_it_is_loaded(stranger: Path, tmp_path: Path) -> None:
    made = load_tokenizer(f"{stranger}:SpaceToDepth")

    class Own(type(made)):  # type: ignore[misc]
        @classmethod
        def load(cls, folder: Path) -> Tokenizer:
            return made

    TOKENIZERS.register("own-class", Own)
    (tmp_path / "tokenizer.json").write_text('{"method": "own-class"}')
    assert load_tokenizer(tmp_path) is made


@pytest.mark.usefixtures("registry")
def test_registered_names(stranger: Path) -> None:
    TOKENIZERS.register("ready-made", type(load_tokenizer(f"{stranger}:SpaceToDepth")))
    assert load_tokenizer("ready-made", f=2).spec.f == 2
    with pytest.raises(ConfigError, match="`vaebench train kl-vae"):
        load_tokenizer("kl-vae")
    with pytest.raises(UnknownName, match="Did you mean 'send-vae'"):
        load_tokenizer("send-vea")


def test_options_are_read_as_overrides_are(stranger: Path) -> None:
    stranger.write_text(
        STRANGER + "class Scaled(SpaceToDepth):\n"
        "    def __init__(self, gain):\n        self.f, self.gain = 4, gain * 2.0\n"
    )
    assert load_tokenizer(f"{stranger}:Scaled?gain=1e-3").gain == 0.002  # type: ignore[attr-defined]


def test_missing_paths_and_files(tmp_path: Path) -> None:
    with pytest.raises(MissingPath, match="does not exist"):
        load_tokenizer(tmp_path / "nothing" / "here")
    table = tmp_path / "vae.csv"
    table.write_bytes(b"")
    with pytest.raises(MissingPath, match="is a file"):
        load_tokenizer(table)
    with pytest.raises(MissingPath, match=r"no config\.json"):
        load_tokenizer(tmp_path)


def test_load_method() -> None:
    assert load_method("send-vae", {"depth": 2}).config.depth == 2
    assert load_method("baselines.kl_vae:KLVAE").name == "kl-vae"
    with pytest.raises(UnknownName, match="Did you mean 'va-vae'"):
        load_method("vavae")
    with pytest.raises(ConfigError, match=r"unknown key 'dept'.*Did you mean 'depth'"):
        load_method("send-vae", {"dept": 2})
    with pytest.raises(ConfigError, match="no method that trains"):
        load_method("pathlib:Path")


def test_listing_imports_neither_torch_nor_the_methods() -> None:
    program = (
        "import sys; from vaebench.tokenizers import TOKENIZERS, architecture; names = TOKENIZERS.names();"
        "assert {'kl-vae', 'va-vae', 'send-vae'} <= set(names), names;"
        "loaded = {'torch', 'diffusers', 'sendvae', 'baselines'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_encode_refuses_images_that_f_does_not_divide() -> None:
    tokenizer = build_autoencoder("nano", torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="36 x 36 is not divisible by the downsampling factor f=8"):
        tokenizer.encode(smooth_images(1, 36))
