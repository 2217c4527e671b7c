"""CAC against a transcription of its official model.py."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg import registry
from evenseg.components.base import Component
from evenseg.errors import InputError

from ..contract.conftest import CAC, CLASSES, make_batch, make_method, make_step

SPEC = {"name": "cac", **CAC, "negatives": 1600}
THRESHOLD, TEMP, WEIGHT, CELL, SIDE = CAC["threshold"], 0.1, 0.1, 8, 32


def official_loss(project, enc_ul, logits_ul, corners, bank):
    """The unsupervised part of CAC.forward, with its names, loops over pixels instead of matrices.

    enc_ul, logits_ul: features and logits of the two windows in cells, (b, c, h, w). corners: (2, b, 2), in cells of
    the whole image. bank: lists of what earlier steps have left, embeddings (k, c) and labels (k,), which are added to.
    """
    output_ul1, output_ul2 = (F.normalize(project(enc), 2, 1) for enc in enc_ul)
    pseudo = [F.softmax(logits, 1).max(1) for logits in logits_ul]
    (pseudo_logits_1, pseudo_label1), (pseudo_logits_2, pseudo_label2) = pseudo
    b, c, h, w = output_ul1.shape
    feature_bank, pseudo_label_bank = bank
    flattened = [output.permute(0, 2, 3, 1).reshape(b * h * w, c).detach() for output in (output_ul1, output_ul2)]
    feature_bank.append(torch.cat(flattened))
    pseudo_label_bank.append(torch.cat([pseudo_label1.flatten(), pseudo_label2.flatten()]))
    del feature_bank[:-2], pseudo_label_bank[:-2]  # step_save of 1
    output_ul_all, pseudo_label_all = torch.cat(feature_bank), torch.cat(pseudo_label_bank)
    loss1, loss2 = [], []
    for idx in range(b):
        for y in range(h):
            for x in range(w):
                y2, x2 = (
                    y + int(corners[0, idx, 0] - corners[1, idx, 0]),
                    x + int(corners[0, idx, 1] - corners[1, idx, 1]),
                )
                if not (0 <= y2 < h and 0 <= x2 < w):
                    continue
                feat1, feat2 = output_ul1[idx, :, y, x], output_ul2[idx, :, y2, x2]
                conf1, conf2 = pseudo_logits_1[idx, y, x], pseudo_logits_2[idx, y2, x2]
                if conf2 > THRESHOLD and conf1 < conf2:
                    mask = pseudo_label_all != pseudo_label1[idx, y, x]
                    pos1 = (feat1 @ feat2.detach() / TEMP).exp()
                    loss1.append(-torch.log(pos1 / (pos1 + (output_ul_all[mask] @ feat1 / TEMP).exp().sum())))
                if conf1 > THRESHOLD and conf2 < conf1:
                    mask = pseudo_label_all != pseudo_label2[idx, y2, x2]
                    pos2 = (feat1.detach() @ feat2 / TEMP).exp()
                    loss2.append(-torch.log(pos2 / (pos2 + (output_ul_all[mask] @ feat2 / TEMP).exp().sum())))
    assert loss1
    assert loss2
    return torch.stack(loss1).mean() + torch.stack(loss2).mean()


def official_step(method, model, project, batch, step, bank):
    """The supervised and the unsupervised loss; the windows are the method's."""
    corners = method._offsets(batch.unlabeled.weak, (SIDE, SIDE), step)
    loss_sup = F.cross_entropy(model(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    outputs = {}
    for view in (1, 0):  # the order matters to running statistics
        windows = [
            image[:, CELL * y : CELL * y + SIDE, CELL * x : CELL * x + SIDE]
            for image, (y, x) in zip(batch.unlabeled.strong[view], corners[view].tolist(), strict=True)
        ]
        outputs[view] = model(torch.stack(windows))
    enc = [F.avg_pool2d(outputs[view].features["decoder"], CELL) for view in (0, 1)]
    logits = [F.avg_pool2d(outputs[view].logits, CELL).detach() for view in (0, 1)]
    return loss_sup, WEIGHT * official_loss(project, enc, logits, corners, bank)


def all_valid(batch):
    return batch._replace(unlabeled=batch.unlabeled._replace(valid=torch.ones_like(batch.unlabeled.valid)))


def test_three_steps_are_the_official_ones():
    """Losses and gradients, with the memory of earlier steps, at unchanged weights."""
    method = make_method(SPEC)
    model, project = copy.deepcopy(method.student), copy.deepcopy(method.projection)
    bank = [], []
    for index in range(3):
        batch, step = all_valid(make_batch(method, seed=index)), make_step(index)
        expected = official_step(method, model, project, batch, step, bank)
        sum(expected).backward()
        output = method(batch, step)
        sum(output.losses.values()).backward()
        got = [output.losses["supervised"].item(), output.losses["unsupervised"].item()]
        assert got == pytest.approx([value.item() for value in expected], rel=1e-4)
        method.on_step_end(step)
    pairs = [
        *zip(method.student.named_parameters(), model.parameters(), strict=True),
        *zip(method.projection.named_parameters(), project.parameters(), strict=True),
    ]
    for (name, parameter), other in pairs:
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, buffer), other in zip(method.student.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=name)


def test_windows_lie_on_cells_and_overlap():
    method = make_method(SPEC)
    image = torch.zeros(50, 3, 128, 176)
    size = method._size(128, 176)
    assert size == (96, 128)  # three quarters, in multiples of 32
    offsets = CELL * method._offsets(image, size, make_step(0))
    assert (offsets >= 0).all()
    assert (offsets[..., 0] <= 128 - 96).all()
    assert (offsets[..., 1] <= 176 - 128).all()
    apart = (offsets[0] - offsets[1]).abs()
    assert apart[:, 0].max() == 32
    assert apart[:, 1].max() == 48
    assert (apart <= torch.tensor(size) // 2).all()
    assert len(offsets.flatten(0, 1).unique(dim=0)) > 20
    one = method._offsets(image[:1], size, make_step(0, slot=7))
    assert torch.equal(CELL * one[:, 0], offsets[:, 7])


def test_negatives_are_of_this_step_and_the_one_before():
    method = make_method({**SPEC, "negatives": 10})
    seen = []
    for index in range(4):
        batch, step = make_batch(method, seed=index), make_step(index)
        method(batch, step)
        seen.append(method.negative[index % 2].clone())
        known = (method.negative_class >= 0).flatten(1).any(1)
        assert known.tolist() == [True, index > 0]
        other = method.negative[(index + 1) % 2]
        assert torch.equal(other, seen[index - 1]) if index else not other.any()
        method.on_step_end(step)
        assert (method.negative_class[(index + 1) % 2] == -1).all()
    assert not torch.equal(seen[2], seen[3])


def test_a_window_of_few_cells_leaves_room():
    method = make_method(SPEC)
    method(all_valid(make_batch(method)), make_step(0))
    cells = (SIDE // CELL) ** 2
    classes = method.negative_class[0].view(4, 2, 1600)
    assert (classes[..., :cells] >= 0).all()
    assert (classes[..., cells:] == -1).all()
    length = method.negative[0].view(4, 2, 1600, -1).norm(dim=-1)
    assert torch.allclose(length, (classes >= 0).float(), atol=1e-5)


def test_a_choice_of_negatives_is_spread_over_the_window():
    """Without replacement, and another one in every step."""
    method = make_method({**SPEC, "negatives": 6}, norm="frozen")
    batch = all_valid(make_batch(method))
    chosen = []
    for index in (0, 2):
        method(batch, make_step(index))
        rows = method.negative[0].view(8, 6, -1).clone()
        assert all(len(image.unique(dim=0)) == 6 for image in rows)
        chosen.append(rows)
    assert not torch.equal(*chosen)


def test_pixels_beyond_the_image_take_no_part():
    method = make_method(SPEC, norm="frozen")
    batch = all_valid(make_batch(method))
    nowhere = batch._replace(unlabeled=batch.unlabeled._replace(valid=torch.zeros_like(batch.unlabeled.valid)))
    output = method(nowhere, make_step(0))
    assert output.losses["unsupervised"].item() == 0
    assert (method.negative_class == -1).all()
    sum(output.losses.values()).backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize(("threshold", "learns"), [(0.2, True), (1.0, False)])
def test_only_sure_cells_teach(threshold, learns):
    method = make_method({**SPEC, "threshold": threshold})
    output = method(make_batch(method), make_step(0))
    assert (output.losses["unsupervised"].item() > 0) == learns


def test_the_surer_of_two_does_not_move():
    """Where the second window is surer everywhere, nothing of the loss comes from pulling it."""
    method = make_method(SPEC, norm="frozen")
    batch = all_valid(make_batch(method))
    offsets = method._offsets(batch.unlabeled.weak, (SIDE, SIDE), make_step(0))
    first, second = (method._look(batch.unlabeled, k, offsets[k], (SIDE, SIDE), make_step(0)) for k in (0, 1))
    first = first._replace(confidence=torch.full_like(first.confidence, 0.3))
    second = second._replace(confidence=torch.full_like(second.confidence, 0.9))
    key, key_class = method._remember((first, second), make_step(0))
    pulled, _ = method._pull(first, second, offsets, key, key_class, make_step(0))
    still, _ = method._pull(second, first, offsets.flip(0), key, key_class, make_step(0))
    assert pulled.item() > 0
    assert still.item() == 0


class Halve(Component):
    """Halves weights, and leaves nothing of class 0."""

    def refine(self, target, weak, step):
        self.training_calls = getattr(self, "training_calls", 0) + self.training
        return target._replace(weight=0.5 * target.weight * (target.label != 0))


def test_components_weigh_what_teaches_and_what_repels():
    method = make_method({**SPEC, "components": []}, norm="frozen")
    other = copy.deepcopy(method)
    other.components.append(Halve())
    batch = all_valid(make_batch(method))
    plain, halved = (each(batch, make_step(0)).losses["unsupervised"].item() for each in (method, other))
    assert 0 < halved < plain
    assert other.components[0].training_calls == 1  # statistics are those of one direction
    kept = other.negative_class[0] >= 0
    assert kept.sum() <= (method.negative_class[0] >= 0).sum()


def test_one_weak_view_is_enough():
    method = make_method({**SPEC, "student_view": "weak"})
    assert method.views.strong == 0
    batch = make_batch(method)
    assert batch.unlabeled.strong == ()
    assert method(batch, make_step(0)).losses["unsupervised"].item() > 0


def test_micro_batches_fill_the_same_places():
    """Two halves one after the other leave what the whole batch does, where no norm layer sees the batch."""
    whole, parts = (make_method(SPEC, norm="frozen") for _ in range(2))
    batch = make_batch(whole)
    whole(batch, make_step(0))
    for first in (0, 2):
        rows = slice(first, first + 2)
        u = batch.unlabeled
        half = u._replace(weak=u.weak[rows], strong=tuple(s[rows] for s in u.strong), valid=u.valid[rows])
        parts(batch._replace(unlabeled=half), make_step(0, slot=first))
    assert torch.equal(parts.negative_class, whole.negative_class)
    torch.testing.assert_close(parts.negative, whole.negative)


def test_the_presets_are_the_published_numbers():
    for name, expected in (("official", (1600, 2)), ("cityscapes", (8100, 1))):
        arguments = registry.check_spec("method", {"name": "cac", "preset": name})[1]
        assert (arguments["negatives"], arguments["negative_steps"]) == expected
    assert make_method({"name": "cac", "preset": "official"}).negative.shape == (2, 4, 3200, 128)


def test_a_temperature_too_low_is_refused_at_the_start():
    with pytest.raises(InputError, match=r"method: temperature: 0\.01 is below 0\.025"):
        make_method({**SPEC, "temperature": 0.01})


def test_the_projection_is_no_part_of_the_network():
    method = make_method(SPEC)
    assert not any("projection" in name for name in method.student.state_dict())
    assert method.eval().predictor()(torch.rand(1, 3, 48, 48)).shape == (1, CLASSES, 48, 48)
