"""A step whose loss is not finite changes nothing but the count of such steps."""

import copy

import pytest
import torch
from torch import nn

from evenseg.config import OptimConfig
from evenseg.methods.base import ParamGroup
from evenseg.training.guard import Guard
from evenseg.training.optim import build_optimizer


def one_step(network, optimizer, guard, index, image):
    guard.remember()
    loss = network(image).square().mean()
    loss.backward()
    bad = guard.judge(index, loss, [p.grad for p in network.parameters()])
    optimizer.found_inf = bad
    optimizer.step()
    optimizer.zero_grad()
    guard.restore(bad)


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_bad_steps_leave_no_trace(name, poison):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    spared = copy.deepcopy(network)
    images = torch.randn(6, 2, 3, 8, 8)
    results = []
    for module, poisoned in ((network, (0, 3)), (spared, ())):
        optimizer = build_optimizer(
            [ParamGroup("head", list(module.parameters()), 1.0)], OptimConfig(name=name, lr=0.01)
        )
        guard = Guard(module)
        bad = []
        for index, image in enumerate(images):
            if module is spared and index in (0, 3):
                continue
            one_step(module, optimizer, guard, index, image * poison if index in poisoned else image)
            bad += guard.bad_steps() if index % 2 else []
        results.append((module.state_dict(), bad))
    assert results[0][1] == [0, 3]
    assert results[1][1] == []
    for key, value in results[0][0].items():
        assert torch.isfinite(value.float()).all()
        assert torch.equal(value, results[1][0][key]), key


def test_a_gradient_alone_can_be_bad():
    network = nn.Linear(2, 1)
    guard = Guard(network)
    guard.remember()
    bad = guard.judge(7, torch.tensor(1.0), [torch.tensor([0.0, float("inf")])])
    assert bad.item() == 1
    assert guard.bad_steps() == [7]
    assert guard.bad_steps() == []
