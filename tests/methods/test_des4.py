"""DeS4 against a transcription of its losses and updates (Eq. 1-12), and what its parts promise."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from evenseg import registry
from evenseg.components.base import Mixer
from evenseg.errors import InputError
from evenseg.functional import random
from evenseg.functional.cells import to_cells
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.prototypes import PrototypeOptions
from evenseg.types import Batch, DataFacts, LabeledBatch, Step, UnlabeledBatch

from ..functional.mes_loop import take_of

C, SIZE, D = 3, 64, 8
FREQUENCY = torch.tensor([600, 300, 100])


def network(norm="frozen", seed=0):
    torch.manual_seed(seed)
    made = SegmentationNetwork("fpn", "tu-test_resnet", num_classes=C, norm=norm)
    for module in made.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0  # so that two passes say the same
    return made


def make(*, norm="frozen", name="des4", on=None, frequency=FREQUENCY, labeled=4, **options):
    if name == "des4":
        options = {"dimension": D, "proto_hold": 0, **options}
    data = DataFacts(("a", "b", "c")[: len(frequency)], frequency, labeled, 4, 2, 2)
    return registry.build("method", {"name": name, **options}, network=on or network(norm), data=data)


def step_at(index=3):
    return Step(index, 10, random.generator(0), 0)


def batch_of(seed=0, unlabeled=True):
    g = torch.Generator().manual_seed(seed)
    label = (
        torch.randint(0, C, (2, SIZE // 16, SIZE // 16), generator=g).repeat_interleave(16, 1).repeat_interleave(16, 2)
    )
    label[0, :20] = 255
    labeled = LabeledBatch(torch.rand(2, 3, SIZE, SIZE, generator=g), label, torch.arange(2))
    valid = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    valid[1, :, 50:] = False
    weak = torch.rand(2, 3, SIZE, SIZE, generator=g)
    return Batch(labeled, UnlabeledBatch(weak, (), valid, torch.arange(2)) if unlabeled else None)


def buffers(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def bank(method, of="teacher"):
    return (method.teacher.network if of == "teacher" else method.student).segmentation_head.bank


def test_a_step_is_the_formula():
    method, batch = make(mixer="none"), batch_of()
    teacher, student = copy.deepcopy(method.teacher.network).eval(), copy.deepcopy(method.student)
    prototypes = bank(method).prototypes.clone()

    def logits_of(net, image):
        embedding = net(image).features["embedding"]
        cosine = torch.einsum("bdhw,cd->bchw", F.normalize(embedding, dim=1), prototypes)
        return F.interpolate(cosine / 0.1, (SIZE, SIZE), mode="bilinear", align_corners=True), embedding, cosine / 0.1

    with torch.no_grad():
        pseudo = logits_of(teacher, batch.unlabeled.weak)[0].argmax(1).where(batch.unlabeled.valid, torch.tensor(255))
    label = batch.labeled.label
    z, embedding, coarse = logits_of(teacher, batch.labeled.image)
    supervised = F.cross_entropy(logits_of(student, batch.labeled.image)[0], label, ignore_index=255)
    unsupervised = F.cross_entropy(logits_of(student, batch.unlabeled.weak)[0], pseudo, ignore_index=255)
    pixel = F.cross_entropy(z, label, ignore_index=255, reduction="none")
    weight = (1 - z.softmax(1).amax(1)) ** 2 * (label != 255)
    weight = weight / weight.sum((1, 2), keepdim=True)
    output = method(batch, step_at())
    assert output.losses["supervised"].item() == pytest.approx(supervised.item(), rel=1e-4)
    assert output.losses["unsupervised"].item() == pytest.approx(1.5 * unsupervised.item(), rel=1e-4)
    assert output.losses["teacher"].item() == pytest.approx((weight * pixel).sum((1, 2)).mean().item(), rel=1e-3)

    # the prototypes: some pixels of each zone of each class, whose mean lies among all means of as many
    cells = to_cells(label, coarse.shape[2:], (SIZE, SIZE), outside=255)
    prob = coarse.softmax(1)
    entropy = -(prob * (prob + 1e-10).log()).sum(1)
    moved = bank(method).prototypes
    for c in range(C):
        members = entropy[cells == c].tolist()
        wanted = max(1, round(100 / FREQUENCY[c].item() * len(members)))
        taken, _, _ = take_of(members, wanted, 5, 0.1)
        assert sum(taken) == min(wanted, len(members))
        if wanted >= len(members):  # the rarest class: all its pixels
            mean = F.normalize(F.normalize(embedding.permute(0, 2, 3, 1)[cells == c], dim=1).mean(0), dim=0)
            torch.testing.assert_close(moved[c], F.normalize(0.99 * prototypes[c] + 0.01 * mean, dim=0))
    assert bank(method).updates.tolist() == [1, 1, 1]


def test_the_expectation_of_the_samples_moves_the_prototypes():
    method, batch = make(estimator="weighted", proto_momentum=0.0, decouple=False), batch_of()
    with torch.no_grad():
        output = method.teacher(batch.labeled.image)
    embedding, coarse = F.normalize(output.features["embedding"], dim=1), output.coarse["class"]
    cells = to_cells(batch.labeled.label, coarse.shape[2:], (SIZE, SIZE), outside=255)
    prob = coarse.softmax(1)
    entropy = -(prob * (prob + 1e-10).log()).sum(1)
    method(batch, step_at())
    for c in range(C):
        members, features = entropy[cells == c].tolist(), embedding.permute(0, 2, 3, 1)[cells == c]
        _, zones, shares = take_of(members, 1, 5, 0.1)
        mean = sum(share * features[zone].mean(0) for share, zone in zip(shares, zones, strict=True) if zone)
        torch.testing.assert_close(bank(method).prototypes[c], F.normalize(mean, dim=0), rtol=1e-4, atol=1e-4)


def test_gradients_stay_where_they_belong():
    method = make(norm="group")
    output = method(batch_of(), step_at())
    output.losses["teacher"].backward()
    for name, parameter in method.named_parameters():
        own = name.startswith(("teacher.network.decoder.", "teacher.network.segmentation_head."))
        assert (parameter.grad is not None) == (own and parameter.requires_grad), name
    method.zero_grad(set_to_none=True)
    output = method(batch_of(), step_at())
    (output.losses["supervised"] + output.losses["unsupervised"]).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (name.startswith("student.") and parameter.requires_grad), name


@pytest.mark.parametrize("policy", ["ema", "copy", "own"])
def test_labelling_changes_nothing_of_the_teachers_decoder(policy):
    method = make(norm="batch", teacher_buffers=policy)
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    method.teacher(batch_of().unlabeled.weak)
    for name, value in method.teacher.state_dict().items():
        if policy != "own" or not name.startswith("network.encoder."):
            assert torch.equal(value, before[name]), name
    assert all(not module.training for module in method.teacher.network.decoder.modules())
    method.teacher.labeled(batch_of().labeled.image)
    after = method.teacher.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("network.decoder.") for name in changed) or not buffers(method.teacher.network.decoder)
    assert any(name.startswith("network.encoder.") for name in changed) == (policy == "own")
    assert all(not module.training for module in method.teacher.network.decoder.modules())


@pytest.mark.parametrize("policy", ["ema", "copy"])
def test_the_encoder_follows_and_the_decoder_does_not(policy):
    method = make(norm="batch", teacher_buffers=policy, ema_decay=0.8)
    with torch.no_grad():
        for p in method.student.parameters():
            p += 0.1
        for b in method.student.encoder.buffers():
            b += 1
    decoder = copy.deepcopy(method.teacher.network.decoder.state_dict())
    old, student = (copy.deepcopy(each.encoder.state_dict()) for each in (method.teacher.network, method.student))
    method.on_step_end(step_at(9))
    for name, value in method.teacher.network.encoder.state_dict().items():
        averaged = value.is_floating_point() and (
            policy == "ema" or name in dict(method.student.encoder.named_parameters())
        )
        torch.testing.assert_close(
            value, 0.8 * old[name] + 0.2 * student[name] if averaged else student[name], msg=name
        )
    assert all(torch.equal(value, decoder[name]) for name, value in method.teacher.network.decoder.state_dict().items())


def test_the_encoder_is_a_copy_while_training_is_supervised():
    method = make(supervised_steps=5)
    for index, equal in ((3, True), (5, True), (6, False)):
        with torch.no_grad():
            for p in method.student.parameters():
                p += 0.1
        method.on_step_end(step_at(index))
        ours, theirs = method.teacher.network.encoder.parameters(), method.student.encoder.parameters()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)) == equal


def test_without_its_parts_it_is_mean_teacher_and_cutmix_on_prototypes():
    method = make(decouple=False, reweight=False, estimator="weighted")
    other_network = network()
    other_network.use_prototypes(PrototypeOptions(dimension=D), FREQUENCY)
    other_network.load_state_dict(method.student.state_dict())
    other = make(
        name="cutmix_seg",
        on=other_network,
        loss="cross_entropy",
        weighting="none",
        student_view="weak",
        unsupervised_weight=1.5,
    )
    for index in range(3):
        output, expected = method(batch_of(index), step_at(index)), other(batch_of(index), step_at(index))
        assert output.losses.keys() == expected.losses.keys()
        for name, value in expected.losses.items():
            assert output.losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
        sum(output.losses.values()).backward()
        sum(expected.losses.values()).backward()
        for a, b in zip(method.student.parameters(), other.student.parameters(), strict=True):
            if a.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
                with torch.no_grad():
                    a -= 0.01 * b.grad
                    b -= 0.01 * b.grad
            a.grad = b.grad = None
        method.on_step_end(step_at(index))
        other.on_step_end(step_at(index))
        for net in (other.student, other.teacher.network):  # which has no updates of its own
            net.segmentation_head.bank.prototypes.copy_(bank(method).prototypes)


def test_banks_are_one_or_two():
    shared, own = make(), make(shared_head=False)
    assert bank(shared) is bank(shared, "student")
    own(batch_of(), step_at())
    teacher, student = bank(own), bank(own, "student")
    assert teacher.updates.tolist() == student.updates.tolist() == [1, 1, 1]
    own.on_step_end(step_at())
    with torch.no_grad():
        own.student.segmentation_head.bank.prototypes.zero_()
    own.on_step_end(step_at())
    assert bank(own).prototypes.norm(dim=1).allclose(torch.ones(C))


def test_prototypes_are_held_and_start_as_told():
    held = make(proto_hold=4)
    gram = bank(held).prototypes @ bank(held).prototypes.T
    torch.testing.assert_close(gram, torch.full((C, C), -0.5).fill_diagonal_(1.0), atol=1e-5, rtol=0)
    before = bank(held).prototypes.clone()
    held(batch_of(), step_at(3))
    assert torch.equal(bank(held).prototypes, before)
    held(batch_of(), step_at(4))
    assert not torch.equal(bank(held).prototypes, before)
    first = make(proto_start="first_batch", estimator="weighted")
    update, batch = first.prototype_updates["teacher"], batch_of()
    seen = []
    means = update.means
    update.means = lambda *args: seen.append(means(*args)) or seen[-1]
    first(batch, step_at(0))
    torch.testing.assert_close(bank(first).prototypes, seen[0].value)
    first(batch_of(1), step_at(1))
    torch.testing.assert_close(bank(first).prototypes, F.normalize(seen[0].value + seen[1].value, dim=1))


def test_the_mean_of_the_holds_last_pass():
    method = make(proto_start="warmup_mean", proto_hold=5, labeled=4)  # two steps a pass
    update = method.prototype_updates["teacher"]
    seen, means = [], update.means
    update.means = lambda *args: seen.append(means(*args)) or seen[-1]
    for index in range(5):
        method(batch_of(index), step_at(index))
    assert len(seen) == 2
    torch.testing.assert_close(bank(method).prototypes, F.normalize(seen[0].value + seen[1].value, dim=1))
    with pytest.raises(InputError, match="proto_hold"):
        make(proto_start="warmup_mean")


def test_classes_without_a_label_are_never_predicted():
    frequency = torch.tensor([600, 0, 100])
    image = batch_of().labeled.image
    prob = make(frequency=frequency).predictor()(image).softmax(1)
    assert (prob[:, 1] == 0).all()
    assert (make(frequency=frequency, mask_absent=False).predictor()(image).softmax(1)[:, 1] > 0).any()


def test_an_image_and_a_batch_without_labels():
    method, batch = make(), batch_of()
    batch.labeled.label.fill_(255)
    before = bank(method).prototypes.clone()
    output = method(batch, step_at())
    assert output.losses["supervised"].item() == output.losses["teacher"].item() == 0
    sum(output.losses.values()).backward()
    assert torch.equal(bank(method).prototypes, before)
    assert bank(method).updates.sum() == 0


def test_features_that_are_not_finite_leave_the_prototypes_as_they_were():
    method, batch = make(), batch_of()
    before = bank(method).prototypes.clone()
    batch.labeled.image[0, 0, 40, 40] = math.nan
    method(batch, step_at())
    assert torch.equal(bank(method).prototypes, before)


def test_correct_pixels_alone():
    method, batch = make(correct_only=True), batch_of()
    with torch.no_grad():
        coarse = method.teacher(batch.labeled.image).coarse["class"]
    cells = to_cells(batch.labeled.label, coarse.shape[2:], (SIZE, SIZE), outside=255)
    method(batch, step_at())
    right = {c for c in range(C) if ((coarse.argmax(1) == cells) & (cells == c)).any()}
    assert bank(method).updates.tolist() == [int(c in right) for c in range(C)]


def test_cosines_are_logged():
    log = make()(batch_of(), step_at()).log
    assert log["prototype_cosine"].item() == pytest.approx(-0.5, abs=0.05)
    assert log["prototype_nearest"].shape == (C,)


def test_the_teachers_decoder_has_a_learning_rate_of_its_own():
    method = make(teacher_lr=10.0)
    groups = {group.name: group for group in method.param_groups()}
    assert groups["teacher"].lr == 10.0
    assert {id(p) for p in groups["teacher"].parameters} == {
        id(p) for p in method.teacher.parameters() if p.requires_grad
    }
    every = [id(p) for group in groups.values() for p in group.parameters]
    assert len(every) == len(set(every)) == sum(p.requires_grad for p in method.parameters())
    assert make(decouple=False).param_groups()[-1].parameters == []


def test_the_averaged_decoder_is_what_is_scored():
    method = make(eval_decoder_ema=True, ema_decay=0.5, ema_warmup=False)
    assert list(method.predictors()) == ["student", "second", "teacher"]
    before = copy.deepcopy(method.teacher.network.decoder)
    with torch.no_grad():
        for p in method.teacher.network.decoder.parameters():
            p += 1
    method.on_step_end(step_at())
    for a, old, new in zip(
        method.evaluated.network.decoder.parameters(),
        before.parameters(),
        method.teacher.network.decoder.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(a, (old + new) / 2)
    assert method.evaluated.network.encoder is method.teacher.network.encoder
    assert method.evaluated.network.segmentation_head.bank is bank(method)


def test_starts_from_networks_with_and_without_prototypes():
    trained, method = make(on=network(seed=1)), make()
    trained(batch_of(), step_at())
    method.start_from(trained.teacher.network.state_dict())
    for net in method.networks():
        assert all(torch.equal(v, trained.teacher.network.state_dict()[k]) for k, v in net.state_dict().items())
    method, prototypes = make(), bank(make()).prototypes
    linear = network(seed=2)
    method.start_from(linear.state_dict())
    for net in method.networks():
        assert torch.equal(
            net.encoder.state_dict()["model.conv1.0.weight"], linear.encoder.state_dict()["model.conv1.0.weight"]
        )
    assert torch.equal(bank(method).prototypes, prototypes)
    with pytest.raises(RuntimeError):
        method.start_from(SegmentationNetwork("fpn", "resnet18", num_classes=C).state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 2}, "dimension: a simplex of 3 prototypes"),
        ({"decouple": False, "teacher_unlabeled": True}, "decouple"),
        ({"eval_decoder_ema": True, "teacher_buffers": "own"}, "eval_decoder_ema"),
        ({"reduction": "class_mean", "supervised_loss": "ohem"}, "class_mean"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


@pytest.mark.parametrize(
    "options", [{"logit_norm": "layernorm"}, {"learn_temperature": True}, {"projection": "mlp"}, {"center": True}]
)
def test_what_is_learned_in_the_head_is_learned_in_both(options):
    method = make(**options)
    output = method(batch_of(), step_at())
    sum(output.losses.values()).backward()
    for net in (method.student, method.teacher.network):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.segmentation_head.parameters())


def test_the_student_teaches_the_teachers_decoder():
    method, batch = make(teacher_unlabeled=True, mixer="none", temperature=1.0), batch_of()
    with torch.no_grad():
        pseudo = method.student(batch.unlabeled.weak).logits.argmax(1).where(batch.unlabeled.valid, torch.tensor(255))
        logits = method.teacher.network(batch.unlabeled.weak).logits
    output = method(batch, step_at())
    assert output.losses["teacher_unlabeled"].item() == pytest.approx(
        1.5 * F.cross_entropy(logits, pseudo, ignore_index=255).item(), rel=1e-4
    )
    assert isinstance(method.mixer, Mixer)
