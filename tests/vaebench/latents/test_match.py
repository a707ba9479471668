"""Latents of different origin are told apart, and both sides are named."""

import json

import numpy as np
import pytest

from vaebench.core.errors import MismatchError
from vaebench.latents import extract_latents, require_match, require_normalisation, require_tokenizer, write_latents
from vaebench.tokenizers.base import LatentNormalisation


@pytest.fixture
def make(kit, tmp_path):
    def make(name, tokenizer=None, data=None, **settings):
        split = kit.Split(20, name=settings.pop("split", "train"))
        data = data or kit.info()
        return extract_latents(tokenizer or kit.Tokenizer(), split, tmp_path / f"{name}.h5", data_info=data, **settings)

    return make


def published(scale):
    return LatentNormalisation(shift=(0.0,) * 5, scale=(scale,) * 5, source=f"times {scale}")


def test_splits_flips_and_precision_may_differ(make):
    require_match(make("train", flip="both"), make("test", split="test", dtype="float16"))


def test_other_tokenizer(kit, make):
    a, b = make("a"), make("b", kit.Tokenizer(2.0, name="wide"))
    with pytest.raises(MismatchError) as error:
        require_match(a, b)
    for part in ("a.h5", "b.h5", "'blocks'", "'wide'", "hash-of-1 and hash-of-2"):
        assert part in str(error.value)
    require_match(a, b, on=("data", "transform"))


def test_other_data(kit, make):
    with pytest.raises(MismatchError, match=r"'noise'.*'photos'.*fingerprint: f00d and beef"):
        require_match(make("a"), make("b", data=kit.info("beef", "photos")))


@pytest.mark.filterwarnings("ignore:The normalisation")
def test_other_normalisation(kit, make):
    a, b = (
        make("a", kit.Tokenizer(normalisation=published(0.2))),
        make("b", kit.Tokenizer(normalisation=published(0.3))),
    )
    with pytest.raises(MismatchError, match=r"normalisation\.scale: \[0\.2.*\[0\.3"):
        require_match(a, b)
    with pytest.raises(MismatchError, match=r"times 0\.2.*times 0\.3"):
        require_normalisation(a.normalisation("tokenizer"), b.normalisation("tokenizer"))
    renamed = b.normalisation("tokenizer").model_copy(update={"source": "elsewhere"})
    require_normalisation(b.normalisation("tokenizer"), renamed)


def test_tokenizer_of_latents(kit, make):
    latents = make("a")
    require_tokenizer(latents, kit.Tokenizer(name="the same under another name").spec)
    with pytest.raises(MismatchError, match=r"a\.h5.*tokenizer 'blocks'.*'other'.*hash-of-1 and hash-of-3"):
        require_tokenizer(latents, kit.Tokenizer(3.0, name="other").spec)
    with pytest.raises(MismatchError, match="normalisation: None and"):
        require_tokenizer(latents, kit.Tokenizer(normalisation=published(0.2)).spec)


def test_tokenizers_without_a_hash_are_known_by_name_and_source(kit, tmp_path):
    ones = np.ones((3, 5, 2, 2))
    made = kit.provenance()
    files = []
    for source in ("here", "there"):
        spec = made.tokenizer.model_copy(update={"checkpoint_hash": "", "source": source})
        known = made.model_copy(update={"tokenizer": spec})
        files.append(write_latents(tmp_path / f"{source}.h5", ones, ones, known, np.arange(3)))
    with pytest.raises(MismatchError, match=r"source: here and there"):
        require_match(*files)


def test_id_follows_content_and_identity_only(kit, tmp_path):
    ones = np.random.default_rng(0).uniform(1, 2, (3, 5, 2, 2))
    made = kit.provenance()
    counter = iter(range(10))

    def file_id(mean, provenance, ids=(0, 1, 2)):
        return write_latents(tmp_path / f"{next(counter)}.h5", mean, ones, provenance, np.array(ids)).id

    first = file_id(ones, made)
    assert file_id(ones, made) == first
    assert file_id(ones, made.model_copy(update={"vaebench": "9.9"})) == first
    assert file_id(ones + 0.1, made) != first
    assert file_id(ones, made, ids=(0, 1, 3)) != first
    assert file_id(ones, made.model_copy(update={"split": "test"})) != first
    assert json.dumps(made.identity())
