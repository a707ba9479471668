import pytest
import torch

from vaebench.core.errors import ConfigError
from vaebench.generation.guidance import guided_velocity

NULL = 9
X = torch.randn(4, 6, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3])


class Network:
    """Velocity that tells label from none, and remembers how much it was asked."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, t, labels):
        assert len(x) == len(t) == len(labels)
        self.batches.append(len(x))
        return x * (labels.view(-1, 1, 1, 1) + 1) + t.view(-1, 1, 1, 1)


def test_scale_one_is_the_conditional_velocity_in_one_pass():
    network = Network()
    assert torch.equal(guided_velocity(network, LABELS, NULL, 1.0)(X, 0.3), Network()(X, torch.full((4,), 0.3), LABELS))
    assert network.batches == [4]


def test_all_channels_are_guided():
    network, t = Network(), torch.full((4,), 0.5)
    conditional, null = network(X, t, LABELS), network(X, t, torch.full((4,), NULL))
    guided = guided_velocity(network, LABELS, NULL, 2.5)(X, 0.5)
    torch.testing.assert_close(guided, null + 2.5 * (conditional - null))
    assert network.batches[-1] == 8


def test_scale_zero_is_without_labels():
    null = Network()(X, torch.full((4,), 0.5), torch.full((4,), NULL))
    torch.testing.assert_close(guided_velocity(Network(), LABELS, NULL, 0.0)(X, 0.5), null)


def test_outside_the_interval_there_is_no_doubled_pass():
    network = Network()
    velocity = guided_velocity(network, LABELS, NULL, 3.0, (0.25, 0.75))
    for t in (0.0, 0.25, 0.5, 0.75, 0.8):
        velocity(X, t)
    assert network.batches == [4, 8, 8, 8, 4]


def test_an_interval_outside_of_time_is_refused():
    with pytest.raises(ConfigError, match="not within"):
        guided_velocity(Network(), LABELS, NULL, 2.0, (0.5, 1.5))
