"""The teacher against the formula, tensor by tensor."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from evenseg.networks import EMATeacher, SegmentationNetwork


def student() -> nn.Sequential:
    torch.manual_seed(0)
    shared = nn.Conv2d(4, 4, 1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), shared, nn.ReLU(), shared)


def disturb(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor.add_(seed + 1)


@pytest.mark.parametrize("policy", ["copy", "ema", "own"])
@pytest.mark.parametrize("warmup", [True, False])
def test_update_is_the_formula(policy, warmup):
    network = student()
    teacher = EMATeacher(network, decay=0.7, buffers=policy, mode="train", warmup=warmup)
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for step in range(6):
        disturb(network, step)
        teacher.update(network, step)
        decay = min(1 - 1 / (step + 1), 0.7) if warmup else 0.7
        for name, tensor in network.state_dict().items():
            if name in parameters or (policy == "ema" and tensor.is_floating_point()):
                expected[name] = decay * expected[name] + (1 - decay) * tensor
            elif policy != "own":
                expected[name] = tensor.clone()
        for name, tensor in teacher.network.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], msg=f"{name} at step {step}")


def test_the_first_update_copies_the_student_exactly():
    network = student()
    teacher = EMATeacher(network, decay=0.999)
    disturb(network, 3)
    teacher.update(network, 0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), teacher.network.state_dict().values(), strict=True)
    )


def test_mode_is_fixed_whatever_the_parent_does():
    for mode in ("eval", "train"):
        teacher = EMATeacher(student(), mode=mode)
        parent = nn.ModuleList([teacher])
        for train in (True, False):
            parent.train(train)
            assert {module.training for module in teacher.modules()} == {mode == "train"}


def test_own_buffers_come_from_the_teachers_passes():
    network = student()
    teacher = EMATeacher(network, buffers="own", mode="train")
    before = teacher.network[1].running_mean.clone()
    teacher.update(network, 0)
    assert torch.equal(teacher.network[1].running_mean, before)
    teacher(torch.rand(2, 3, 8, 8))
    assert not torch.equal(teacher.network[1].running_mean, before)
    with pytest.raises(ValueError, match="own"):
        EMATeacher(network, buffers="own")


def test_no_gradient():
    network = student()
    teacher = EMATeacher(network)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert not teacher(image).requires_grad


def test_tensors_that_were_replaced_or_loaded_are_followed():
    network = student()
    teacher = EMATeacher(network, buffers="copy", decay=0.5)
    teacher.update(network, 9)
    network.double()  # gives every buffer a new tensor
    teacher.double()
    disturb(network, 1)
    teacher.update(network, 9)
    assert torch.equal(teacher.network[1].running_mean, network[1].running_mean)
    teacher.load_state_dict({name: torch.zeros_like(t) for name, t in teacher.state_dict().items()})
    teacher.update(network, 9)
    torch.testing.assert_close(teacher.network[0].weight.data, network[0].weight.data / 2)


def test_state_dict_round_trip_and_copies():
    network = student()
    teacher = EMATeacher(network, decay=0.9)
    disturb(network, 1)
    teacher.update(network, 5)
    other = EMATeacher(student(), decay=0.9)
    other.load_state_dict(teacher.state_dict())
    twin = copy.deepcopy(teacher)
    disturb(network, 2)
    for each in (teacher, other, twin):
        each.update(network, 6)
    for a, b, c in zip(*(each.state_dict().values() for each in (teacher, other, twin)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in network.parameters())


def test_heads_belong_before_the_teacher():
    network = SegmentationNetwork("fpn", "tu-test_efficientnet", num_classes=3)
    network.add_head("early", nn.Conv2d(network.channels["decoder"], 2, 1))
    teacher = EMATeacher(network)
    teacher.update(network, 0)
    output = teacher(torch.rand(1, 3, 33, 40))
    assert output.logits.shape == (1, 3, 33, 40)
    assert output.heads["early"].shape == (1, 2, 33, 40)
    network.add_head("late", nn.Conv2d(network.channels["decoder"], 2, 1))
    with pytest.raises(ValueError, match="before making its teacher"):
        EMATeacher(student()).update(network, 1)
    with pytest.raises(ValueError, match="before making its teacher"):
        copy.deepcopy(teacher).update(network, 1)


def test_frozen_batch_norm_stays_frozen_in_a_training_teacher():
    network = SegmentationNetwork("fpn", "tu-test_efficientnet", num_classes=3, norm="frozen")
    teacher = EMATeacher(network, mode="train").train()
    before = [buffer.clone() for buffer in teacher.buffers()]
    teacher(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.buffers(), strict=True))
