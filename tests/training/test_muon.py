"""Muon: its steps are orthogonal, it learns, and it goes on where it stopped."""

import copy

import torch
from torch import nn
from training.toon.muon import Muon, orthogonalize


def make_problem():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 5))
    pictures, answers = torch.randn(64, 3, 4, 4), torch.randint(0, 5, (64,))
    return network, lambda: nn.functional.cross_entropy(network(pictures), answers)


def descend(optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    return float(loss().detach())


def test_the_singular_values_of_a_step_are_about_one():
    torch.manual_seed(1)
    for shape in ((3, 12, 40), (3, 40, 12)):
        matrices = torch.randn(shape) @ torch.diag_embed(torch.logspace(0, 1.0, shape[-1]).expand(3, -1))
        values = torch.linalg.svdvals(orthogonalize(matrices).float())
        assert values.min() > 0.3
        assert values.max() < 1.4


def test_it_learns_what_chance_labels_are():
    network, loss = make_problem()
    before = float(loss().detach())
    after = descend(Muon(network.parameters(), lr=0.02), loss, 60)
    assert after < 0.5 * before


def test_plain_weights_and_vectors_are_left_to_adam():
    network, _ = make_problem()
    optimizer = Muon(network.parameters(), lr=0.01, plain=[network[0].weight])
    orthogonal, others = optimizer.param_groups
    assert [weight.shape for weight in orthogonal["params"]] == [network[2].weight.shape]
    assert len(others["params"]) == 3


def test_it_goes_on_from_its_state():
    network, loss = make_problem()
    optimizer = Muon(network.parameters(), lr=0.02)
    descend(optimizer, loss, 5)
    kept = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
    straight = descend(optimizer, loss, 5)
    network.load_state_dict(kept[0])
    again = Muon(network.parameters(), lr=0.5)
    again.load_state_dict(kept[1])
    assert descend(again, loss, 5) == straight
