"""Every registered method that trains a tokenizer, tested by being registered."""

import numpy as np
import pytest
import torch

from vaebench.stages.train import require_readable
from vaebench.tokenizers import TOKENIZERS, load_method
from vaebench.tokenizers.base import TrainableTokenizer
from vaebench.tokenizers.check import check_tokenizer, smooth_images
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec, initialised_by

METHODS = [
    name for name in TOKENIZERS.names() if issubclass(TOKENIZERS.get(name), Method) and TOKENIZERS.get(name).trainable
]
TEACHER = TeacherSpec("stand-in", 24, (4, 4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run_step(name: str, seed: int = 0) -> tuple[TrainableTokenizer, ObjectiveOutput | None, Objective | None]:
    method = load_method(name)
    tokenizer = method.build("nano", generator(seed))
    images, spec = smooth_images(4, 32), tokenizer.spec
    grid = (32 // spec.f, 32 // spec.f)
    noise = torch.randn(4, spec.d, *grid, generator=generator(seed))
    posterior = tokenizer.network.encode(images)
    latents = posterior.sample(noise)
    reconstruction = tokenizer.network.decode(latents)
    inputs = StepInputs(
        images=images,
        posterior=posterior,
        latents=latents,
        reconstruction=reconstruction,
        features=torch.randn(4, 24, 4, 4, generator=generator(seed)) if method.needs_teacher else None,
        labels=torch.arange(4),
        reconstruction_loss=(reconstruction - images).abs().mean(),
        encoder_last_weight=tokenizer.encoder_last_weight,
        decode=tokenizer.network.decode,
        step=0,
        positions=np.arange(4),
        seed=seed,
        generator=generator(seed),
    )
    teacher = TEACHER if method.needs_teacher else None
    objective = method.objective(spec.d, grid, teacher, generator(seed))
    return tokenizer, objective(inputs) if objective is not None else None, objective


def test_the_shipped_methods_are_registered() -> None:
    assert {"kl-vae", "va-vae", "send-vae"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_identity(name: str) -> None:
    found = TOKENIZERS.get(name)
    assert found.name == name
    assert found.summary
    assert "\n" not in found.summary
    assert found.Config() == found().config


@pytest.mark.parametrize("name", METHODS)
def test_a_built_tokenizer_keeps_the_contract(name: str) -> None:
    tokenizer = load_method(name).build("nano", generator())
    assert check_tokenizer(tokenizer, 32) == []
    assert tokenizer.spec.method == name


@pytest.mark.parametrize("name", METHODS)
def test_a_method_may_start_from_what_it_builds(name: str) -> None:
    method = load_method(name)
    require_readable(method, method.build("nano", generator()))


@pytest.mark.parametrize("name", METHODS)
def test_one_step_forward_and_backward(name: str) -> None:
    tokenizer, output, objective = run_step(name)
    if output is None:
        assert not load_method(name).needs_teacher
        return
    assert output.loss.shape == ()
    assert not torch.as_tensor(output.weight).requires_grad
    assert float(output.weight) >= 0
    assert all(value.isfinite() and not value.requires_grad and value.shape == () for value in output.logs.values())
    (output.weight * output.loss).backward()
    gradient = tokenizer.encoder_last_weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_a_function_of_its_generators(name: str) -> None:
    torch.manual_seed(1)
    first = run_step(name)[1]
    torch.manual_seed(2)
    second, other = run_step(name)[1], run_step(name, seed=1)[1]
    if first is not None:
        assert first.loss.item() == second.loss.item() != other.loss.item()


def test_initialised_by_isolates_the_global_state() -> None:
    state = torch.get_rng_state()
    with initialised_by(generator(3)):
        first = torch.rand(3)
    with initialised_by(generator(3)):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(state, torch.get_rng_state())
