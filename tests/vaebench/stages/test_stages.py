"""What stages leave, and that artefacts which do not belong together are refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vaebench
from vaebench.core.errors import DataError, LatentFileError, MismatchError
from vaebench.core.files import read_json
from vaebench.stages import STAGES, VERSIONS
from vaebench.stages.base import Context, execute

CPU = Context(device="cpu")


def folder(run, pattern):
    return next((run / "stages").glob(pattern))


@pytest.mark.parametrize("kind", VERSIONS)
def test_every_kind_is_registered_under_its_name(kind):
    assert STAGES.get(kind).kind == kind


def test_a_trained_tokenizer_loads_and_its_latents_say_so(smoke_run):
    trained = folder(smoke_run, "train-send-vae-*")
    tokenizer = vaebench.load_tokenizer(trained)
    latents = vaebench.LatentFile(folder(smoke_run, "extract-send-vae-*") / "train.h5")
    assert tokenizer.spec.method == "send-vae"
    assert latents.info.tokenizer.checkpoint_hash == tokenizer.spec.checkpoint_hash
    assert not (trained / "checkpoints").exists()


def test_a_trained_tokenizer_is_a_diffusers_folder(smoke_run):
    from diffusers import AutoencoderKL

    AutoencoderKL.from_pretrained(folder(smoke_run, "train-kl-vae-*") / "tokenizer", local_files_only=True)


def test_fine_tuning_starts_from_the_initial_weights(smoke_run):
    weights = {}
    for name in ("kl-vae", "va-vae"):
        network = vaebench.load_tokenizer(folder(smoke_run, f"train-{name}-*")).network
        weights[name] = np.concatenate([p.detach().numpy().ravel() for p in network.parameters()])
    fresh = vaebench.load_tokenizer(folder(smoke_run, "train-kl-vae-*")).network
    size = np.linalg.norm(np.concatenate([p.detach().numpy().ravel() for p in fresh.parameters()]))
    distance = np.linalg.norm(weights["kl-vae"] - weights["va-vae"])
    assert 0 < distance < 0.2 * size


def test_grids_show_every_class(smoke_run):
    grid = Image.open(folder(smoke_run, "generate-kl-vae-*steps6*") / "samples.png")
    samples = np.load(folder(smoke_run, "generate-kl-vae-*steps6*") / "samples.npy")
    assert samples.shape == (48, 3, 32, 32)
    assert grid.height == 11 * 34 - 2  # one row per class, a gap of two pixels


def test_protocols_agree_across_tokenizers_and_differ_across_budgets(smoke_run):
    hashes = {}
    for path in (smoke_run / "stages").glob("generate-*/scores.json"):
        steps = json.loads((path.parent / "stage.json").read_text())["config"]["steps"]
        for score in json.loads(path.read_text()):
            hashes.setdefault((steps, score["metric"]), set()).add(score["protocol_hash"])
    assert all(len(found) == 1 for found in hashes.values())
    assert hashes[4, "gfid"] != hashes[6, "gfid"]
    assert hashes[6, "gfid"] != hashes[6, "gfid_vs_reconstructions"]


def test_samples_of_one_tokenizer_are_not_decoded_by_another(smoke_run, tmp_path):
    config = json.loads((folder(smoke_run, "generate-kl-vae-*steps6*") / "stage.json").read_text())["config"]
    inputs = {
        "sit": folder(smoke_run, "sit-kl-vae-*"),
        "tokenizer": folder(smoke_run, "train-va-vae-*"),
        "reference": folder(smoke_run, "reference-*"),
        "reconstruct": folder(smoke_run, "reconstruct-kl-vae-*"),
    }
    with pytest.raises(MismatchError, match="kl-vae"):
        execute(STAGES.get("generate")(), config, inputs, tmp_path / "out", CPU)


def test_the_evaluations_that_samples_took_are_those_recorded(smoke_run, tmp_path):
    fixed = folder(smoke_run, "generate-kl-vae-*steps6*")
    record = read_json(fixed / "stage.json")
    assert read_json(fixed / "sampling.json") == {"nfe": 4}
    assert read_json(fixed / "scores.json")[0]["protocol"]["sampler"]["nfe"] == 4
    config = {**record["config"], "sampler": {"method": "dopri5"}, "samples": 11}
    made = execute(STAGES.get("generate")(), config, record["references"], tmp_path / "out", CPU)
    assert read_json(made.folder / "sampling.json")["nfe"] > 4
    assert all("nfe" not in score.protocol["sampler"] for score in made.scores if "sampler" in score.protocol)


def test_latents_of_two_tokenizers_do_not_mix(smoke_run, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(folder(smoke_run, "extract-kl-vae-*"), mixed)
    shutil.copy(folder(smoke_run, "extract-va-vae-*") / "test.h5", mixed / "test.h5")
    with pytest.raises(DataError, match=r"not as it was written: test\.h5"):
        vaebench.probe(mixed, context=CPU)
    (mixed / "checksums.json").unlink()
    with pytest.raises(MismatchError, match=r"kl-vae.*va-vae"):
        vaebench.probe(mixed, context=CPU)


def test_truncated_latents_are_refused(smoke_run, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder(smoke_run, "extract-kl-vae-*"), broken)
    path = broken / "train.h5"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"not as it was written: train\.h5"):
        vaebench.probe(broken, context=CPU)
    (broken / "checksums.json").unlink()
    with pytest.raises(LatentFileError):
        vaebench.probe(broken, context=CPU)


def test_data_without_attributes_cannot_be_probed(tmp_path):
    images = tmp_path / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(images / name / f"{i}.png")
    data = vaebench.prepare_data(images, tmp_path / "data", {"image_size": 32, "validation_fraction": 0.3,
                                                             "test_fraction": 0.3}, CPU)  # fmt: skip
    tokenizer = vaebench.train("kl-vae", data, tmp_path / "kl", network="nano", context=CPU,
                               training={"steps": 1, "batch_size": 4, "tensorboard": False})  # fmt: skip
    latents = vaebench.extract(tokenizer, data, tmp_path / "latents", context=CPU)
    with pytest.raises(DataError, match="no attributes"):
        vaebench.probe(latents, context=CPU)
    # In a study this must not cost the rest.
    left = execute(STAGES.get("probe")(), {}, {"latents": str(latents)}, tmp_path / "probe", CPU)
    assert left.scores == []
    assert read_json(left.folder / "notes.json") == {"not_available": {"probes": "needs attributes"}}


@pytest.mark.parametrize("kind", ["train", "sit"])
def test_killed_between_training_and_sealing_it_does_not_train_anew(smoke_run, tmp_path, monkeypatch, kind):
    from vaebench.stages import base
    from vaebench.training.loop import _Loop

    record = json.loads((folder(smoke_run, f"{kind}-kl-vae-*") / "stage.json").read_text())
    steps, one_step, write_scores = [], _Loop._one_step, base.write_scores
    monkeypatch.setattr(_Loop, "_one_step", lambda self: (steps.append(self.step), one_step(self))[1])

    def execute_again():
        return execute(STAGES.get(kind)(), record["config"], record["references"], tmp_path / "out", CPU)

    monkeypatch.setattr(base, "write_scores", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        execute_again()
    monkeypatch.setattr(base, "write_scores", write_scores)
    trained = len(steps)
    made = execute_again()
    assert len(steps) == trained == record["config"]["training"]["steps"]
    assert made.hash == record["hash"]
    assert not (made.folder / "checkpoints").exists()
    expected, found = ({p.relative_to(root): p.read_bytes() for p in root.rglob("*.safetensors")}
                       for root in (folder(smoke_run, f"{kind}-kl-vae-*"), made.folder))  # fmt: skip
    assert found == expected


def test_an_image_size_that_f_does_not_divide_is_refused(tmp_path):
    with pytest.raises(DataError, match="40 x 40"):
        vaebench.train(
            "kl-vae", "avatars", tmp_path / "kl", network="tiny", context=CPU, training={"steps": 1, "batch_size": 4},
            data_options={"image_size": 40, "train": 8, "validation": 4, "test": 4},
        )  # fmt: skip


def test_changed_images_are_read_again(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(images / f"{i}.png")
    first = vaebench.prepare_data(images, options={"image_size": 16}, context=CPU)
    assert vaebench.prepare_data(images, options={"image_size": 16}, context=CPU) == first
    Image.new("RGB", (16, 16), (0, 255, 0)).save(images / "0.png")
    assert vaebench.prepare_data(images, options={"image_size": 16}, context=CPU) != first
