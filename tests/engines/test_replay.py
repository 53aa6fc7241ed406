"""A forward recorded and replayed, on a small network with conditions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from understudy.engines import replay as replay_module
from understudy.engines.cores import Cores
from understudy.engines.replay import KEPT, Recording, ReplayedForward


class SmallNetwork(nn.Module):
    """Some of everything that a UNet does; `looked` counts how often it looks at its condition."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.look = nn.Linear(5, 16)
        self.dropout = nn.Dropout(0.5)
        self.back = nn.Conv2d(8, 3, 1)

    def forward(self, sample, time, *, condition, extra=None, scale=1.0, return_dict=True):
        shift, gain = self.look(condition["states"]).chunk(2, dim=-1)
        hidden = self.norm(self.convolution(sample)) * time.expand(sample.shape[0])[:, None, None, None]
        hidden = (
            self.dropout(nn.functional.silu(hidden) / 1.0) * gain[..., None, None] + shift[..., None, None]
        )
        if extra is not None:
            hidden = torch.cat([hidden, extra[0] * scale], dim=1)[:, : hidden.shape[1]] + extra[0]
        out = self.back(hidden)
        return {"sample": out} if return_dict else (out, [hidden.mean(dim=(2, 3))])


@pytest.fixture
def network() -> SmallNetwork:
    torch.manual_seed(0)
    return SmallNetwork().eval()


def make_arguments(rows: int, **changes):
    generator = torch.Generator().manual_seed(rows)
    arguments = {
        "condition": {"states": torch.randn(rows, 5, generator=generator), "unused": None},
        "extra": [torch.randn(rows, 8, 4, 4, generator=generator)],
        "return_dict": False,
    }
    sample = torch.randn(rows, 3, 4, 4, generator=generator)
    return (sample, torch.tensor(0.5)), arguments | changes


def replayed(network: SmallNetwork, cores: int) -> ReplayedForward:
    return ReplayedForward(network.forward, ("extra",), Cores(cores))


@torch.no_grad()
@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6])
def test_it_gives_the_numbers_of_the_forward_itself(network, rows, cores):
    forward = replayed(network, cores)
    for step in range(3):
        positional, keywords = make_arguments(rows)
        positional = (positional[0] + step, positional[1] * step)
        expected, (means,) = network(*positional, **keywords)
        found, (found_means,) = forward(*positional, **keywords)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(found_means, means, atol=1e-5)


@torch.no_grad()
def test_every_argument_counts(network):
    forward = replayed(network, 2)
    positional, keywords = make_arguments(2)
    for change in (
        {},
        {"condition": {"states": keywords["condition"]["states"].flip(0), "unused": None}},
        {"extra": None},
        {"extra": [torch.zeros(2, 8, 4, 4)]},
        {"scale": 0.5},
        {"return_dict": True},
        {},
    ):
        changed = keywords | change
        expected, found = network(*positional, **changed), forward(*positional, **changed)
        pick = (lambda result: result["sample"]) if change.get("return_dict") else (lambda result: result[0])
        assert torch.allclose(pick(found), pick(expected), atol=1e-5), change
    wide = (torch.cat([positional[0]] * 2, dim=3), positional[1])
    assert torch.allclose(
        forward(*wide, **keywords | {"extra": None})[0],
        network(*wide, **keywords | {"extra": None})[0],
        atol=1e-5,
    )


@torch.no_grad()
def test_what_depends_on_the_condition_alone_is_computed_once_a_drawing(network):
    positional, keywords = make_arguments(2)
    recording = Recording(
        lambda steady, changing: network(
            changing[0], changing[1], condition={"states": steady[0]}, return_dict=False
        ),
        [keywords["condition"]["states"]],
        list(positional),
    )
    linear = {call.function for call in recording._drawing}
    assert torch.nn.functional.linear in linear
    assert torch.nn.functional.linear not in {call.function for call in recording._step}


@torch.no_grad()
def test_rows_given_twice_are_computed_once(network):
    seen = []

    def forward(sample, time, *, condition, prompt):
        seen.append(sample.shape[0])
        return network(sample, time, condition={"states": condition}, return_dict=False)

    replay = ReplayedForward(forward, (), Cores(2), told_apart_by="condition")
    (sample, time), keywords = make_arguments(2)
    states = keywords["condition"]["states"]
    for change, rows in ((0.0, 1), (1.0, 2)):
        twice = torch.cat([sample, sample + change])
        arguments = {"condition": torch.cat([states, states]), "prompt": torch.randn(4)}
        found, (means,) = replay(twice, time, **arguments)
        expected, (expected_means,) = forward(twice, time, **arguments)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(means, expected_means, atol=1e-5)
        assert seen[-2] == rows


@torch.no_grad()
def test_a_network_that_has_changed_is_recorded_anew(network):
    forward = replayed(network, 1)
    positional, keywords = make_arguments(2)
    forward(*positional, **keywords)
    network.back = nn.Conv2d(8, 3, 1)
    forward.forget()
    assert torch.allclose(forward(*positional, **keywords)[0], network(*positional, **keywords)[0], atol=1e-5)


@torch.no_grad()
def test_only_some_recordings_are_kept(network):
    forward = replayed(network, 1)
    for rows in range(1, KEPT + 4):
        positional, keywords = make_arguments(rows)
        forward(*positional, **keywords)
    assert len(forward._recordings) == KEPT


@pytest.mark.parametrize(
    "forward",
    [
        lambda tensor: tensor.add_(1),
        lambda tensor: tensor.__iadd__(1),
        lambda tensor: tensor.__setitem__(0, 1),
        lambda tensor: tensor * tensor.sum().item(),
        lambda tensor: tensor if tensor.sum() > 0 else -tensor,
        lambda tensor: torch.nn.functional.relu(tensor, inplace=True),
        lambda tensor: torch.add(tensor, 1, out=torch.empty(3)),
    ],
    ids=["add_", "+=", "[]=", "item", "if", "inplace", "out"],
)
def test_what_cannot_be_replayed_is_refused(forward):
    with pytest.raises(ValueError, match="cannot be replayed"):
        Recording(lambda steady, changing: forward(changing[0]), [], [torch.ones(3)])


def test_a_division_that_rounds_is_no_division_by_one():
    recording = Recording(
        lambda steady, changing: torch.div(changing[0], 1, rounding_mode="floor"), [], [torch.tensor([1.5])]
    )
    assert recording.replay(recording.prepare([]), [torch.tensor([2.5])]).item() == 2.0


@pytest.mark.parametrize("compiles", [True, False])
def test_with_and_without_torchscript_the_numbers_are_the_same(monkeypatch, compiles):
    monkeypatch.setattr(replay_module, "_COMPILES", compiles)
    condition, sample = torch.randn(2, 3, 8), torch.randn(2, 4, 6, 6)
    recording = Recording(
        lambda steady, changing: torch.nn.functional.silu(changing[0] * steady[0].mean()),
        [condition],
        [sample],
    )
    assert (recording._compiled is not None) == compiles
    other = torch.randn(2, 3, 8)
    again = recording.replay(recording.prepare([other]), [sample + 1])
    assert torch.equal(again, torch.nn.functional.silu((sample + 1) * other.mean()))
