"""What every method promises, whatever it does inside."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from evenseg.components.adaptive_equalization import EqualizationSampling
from evenseg.components.base import Component, Mixer
from evenseg.components.subclass_branch import SubclassBranch
from evenseg.methods.examine import HEALTH
from evenseg.metrics.pseudo_label_health import HealthSums, health_sums
from evenseg.networks.mode import unchanged
from evenseg.types import StepOutput

from .conftest import CLASSES, SIZE, VARIANTS, make_batch, make_method, make_step

every_method = pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())


def train_one_step(method, index, batch):
    output = method(batch, make_step(index))
    optimizer = torch.optim.SGD([p for group in method.param_groups() for p in group.parameters], lr=0.1)
    sum(output.losses.values()).backward()
    optimizer.step()
    optimizer.zero_grad()
    method.on_step_end(make_step(index))
    return output


@every_method
def test_losses_are_finite_scalars_and_logs_are_detached(spec):
    method = make_method(spec)
    output = method(make_batch(method), make_step(0))
    assert isinstance(output, StepOutput)
    assert "supervised" in output.losses
    assert all(value.shape == () and torch.isfinite(value) for value in output.losses.values())
    assert all(not value.requires_grad for value in output.log.values())


@every_method
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_gradient_reaches_every_trainable_parameter_and_no_other(spec, autocast):
    method = make_method(spec)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = method(make_batch(method), make_step(3))
    sum(output.losses.values()).backward()
    grouped = {id(p) for group in method.param_groups() for p in group.parameters}
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) in grouped), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
    assert sum(float(p.grad.abs().sum()) for p in method.student.parameters() if p.grad is not None) > 0


@every_method
def test_unlabeled_loss_has_a_gradient_of_its_own(spec):
    method = make_method(spec)
    batch = make_batch(method)
    if batch.unlabeled is None:
        pytest.skip("a purely supervised method")
    output = method(batch, make_step(9))
    assert "unsupervised" in output.losses
    gradients = torch.autograd.grad(
        output.losses["unsupervised"], [p for p in method.student.parameters() if p.requires_grad], allow_unused=True
    )
    reached = [g for g in gradients if g is not None]
    assert reached  # connected even where the threshold keeps nothing


@every_method
def test_purely_supervised_steps_need_no_unlabeled_images(spec):
    method = make_method(spec)
    output = method(make_batch(method, unlabeled=False), make_step(0))
    assert "unsupervised" not in output.losses
    sum(output.losses.values()).backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


@every_method
def test_state_dict_restores_everything(spec):
    method = make_method(spec)
    batch = make_batch(method)
    for index in range(2):
        train_one_step(method, index, batch)
    restored = make_method(spec, seed=1)
    restored.load_state_dict(method.state_dict())
    for index in range(2, 4):
        expected = train_one_step(method, index, batch)
        got = train_one_step(restored, index, batch)
        assert {k: v.item() for k, v in got.losses.items()} == {k: v.item() for k, v in expected.losses.items()}
    for (name, left), right in zip(method.state_dict().items(), restored.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


@every_method
def test_all_memory_is_float32_or_integer_and_in_the_state_dict(spec):
    method = make_method(spec)
    state = method.state_dict()
    for name, value in state.items():
        assert value.dtype == torch.float32 or not value.is_floating_point(), name
    assert {name for name, _ in method.named_parameters()} <= set(state)


@every_method
def test_predictors_map_images_to_logits(spec):
    method = make_method(spec).eval()
    image = torch.rand(2, 3, SIZE + 1, SIZE - 7)
    roles = method.predictors()
    assert "student" in roles
    assert (method.teacher is not None) == ("teacher" in roles)
    with torch.no_grad():
        for network in roles.values():
            assert network(image).shape == (2, CLASSES, SIZE + 1, SIZE - 7)
        assert torch.equal(method.predictor()(image), list(roles.values())[-1](image))


@every_method
def test_teacher_is_the_average_and_takes_no_gradient(spec):
    method = make_method(spec)
    if method.teacher is None:
        pytest.skip("no teacher")
    batch = make_batch(method)
    train_one_step(method, 0, batch)
    before = copy.deepcopy(method.teacher.network)
    train_one_step(method, 1, batch)
    decay = method.teacher.decay_at(method.ema_step(1))
    for (name, now), old, student in zip(
        method.teacher.network.named_parameters(), before.parameters(), method.student.parameters(), strict=True
    ):
        if not method.teacher.follows(name):
            assert now.requires_grad == student.requires_grad, name
            continue
        assert not now.requires_grad
        torch.testing.assert_close(now, decay * old + (1 - decay) * student, msg=name)


@every_method
def test_pseudo_target_is_a_distribution_without_gradient(spec):
    method = make_method(spec).eval()
    target = method.pseudo_target(torch.rand(2, 3, SIZE, SIZE), make_step(0))
    total = target.prob.sum(1)
    if any(isinstance(part, SubclassBranch) and part.regularization for part in method.components):
        assert ((total > 0) & (total <= 1 + 1e-5)).all() or method.components[0].closed == "drop"
    else:
        torch.testing.assert_close(total, torch.ones(2, SIZE, SIZE))
    assert not target.prob.requires_grad
    assert target.weight.shape == (2, SIZE, SIZE)
    assert (target.weight >= 0).all()


class CountHostReads(TorchDispatchMode):
    """Counts the operations that would make a GPU's host wait: reading a value, sizes that depend on data."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        boolean_index = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in self.WAITING or boolean_index:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@every_method
def test_a_step_never_waits_for_the_device(spec):
    method = make_method(spec)
    batch = make_batch(method)
    train_one_step(method, 0, batch)
    with CountHostReads() as counted:
        output = method(batch, make_step(1))
        sum(output.losses.values()).backward()
        method.on_step_end(make_step(1))
    assert counted.found == []


def examined(method, batch, truth=None):
    """The output of a step whose pseudo-labels are examined."""
    if truth is not None:
        batch = batch._replace(unlabeled=batch.unlabeled._replace(maps={"truth": truth}))
    return method(batch, make_step(1)._replace(health=True))


@every_method
def test_examining_pseudo_labels_changes_nothing_and_never_waits(spec):
    method, other = make_method(spec), make_method(spec)
    batch = make_batch(method)
    plain = method(batch, make_step(1))
    assert HEALTH not in plain.log
    if batch.unlabeled is None:
        assert HEALTH not in examined(other, batch).log
        return
    with CountHostReads() as counted:
        output = examined(other, batch, torch.zeros(batch.unlabeled.valid.shape, dtype=torch.int64))
    assert counted.found == []
    assert {k: v.item() for k, v in output.losses.items()} == {k: v.item() for k, v in plain.losses.items()}
    sums = HealthSums(*output.log[HEALTH])
    assert sums.predicted.sum() > 0
    assert sums.true[0] == sums.predicted.sum()  # every valid pixel is truly of class 0
    assert (sums.disagreeing <= sums.predicted).all()  # known, and no more


@every_method
def test_what_the_student_saw_is_returned_when_asked_for(spec):
    method, other = make_method(spec), make_method(spec)
    batch = make_batch(method)
    plain = method(batch, make_step(1))
    assert plain.seen is None
    with CountHostReads() as counted:
        output = other(batch, make_step(1)._replace(picture=True))
    assert counted.found == []
    assert {k: v.item() for k, v in output.losses.items()} == {k: v.item() for k, v in plain.losses.items()}
    if batch.unlabeled is None:
        assert output.seen is None
        return
    image, label = output.seen
    assert len(image) == len(batch.labeled.image)  # as many slots of either kind, with or without partners
    assert hasattr(method, "window") or image.shape == batch.labeled.image.shape
    assert label.shape == (len(image), *image.shape[2:])
    assert ((label >= 0) & ((label < method.student.num_classes) | (label == 255))).all()
    assert not image.requires_grad


@every_method
def test_pseudo_labels_outside_of_a_step_are_those_of_the_step(spec):
    method = make_method(spec)
    if not method.views.unlabeled:
        pytest.skip("a purely supervised method")
    if hasattr(method, "mixer"):
        method.mixer = Mixer()  # which mixes nothing
    if getattr(method, "joint_pass", False):
        pytest.skip("its batch statistics are also those of the labeled images")
    if hasattr(method, "window"):
        pytest.skip("it labels windows of the view")
    if hasattr(method, "drop_percent"):
        pytest.skip("what it leaves out depends on a further pass, of labeled images and mixtures")
    if getattr(method, "teacher_view", "weak") != "weak":
        pytest.skip("its teacher sees another view")
    for part in method.components:
        if isinstance(part, EqualizationSampling):
            part.beta = 0.0  # what it leaves out depends on the student's view
    batch, before = make_batch(method), {name: value.clone() for name, value in method.state_dict().items()}
    with unchanged(method):
        target = method.pseudo_labels(batch.unlabeled.weak, batch.unlabeled.valid, make_step(1))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    sums = HealthSums(*examined(method, batch).log[HEALTH])
    assert not target.prob.requires_grad
    for ours, theirs in zip(health_sums(target)[:4], sums[:4], strict=True):  # predicted, kept, weight, confidence
        assert torch.allclose(ours, theirs, rtol=1e-5)


class Remember(Component):
    """Keeps the labels of the last pseudo target."""

    def refine(self, target, weak, step):
        self.label = target.label
        return target


@pytest.mark.parametrize("name", [name for name in VARIANTS if name in ("mean_teacher", "cutmix_seg", "fixmatch")])
def test_truth_goes_with_the_pixels_it_belongs_to(name):
    """Where the teacher's labels are the truth every pseudo-label is right, also after mixing."""
    method, other = make_method(VARIANTS[name]), make_method(VARIANTS[name])
    method.components.append(Remember())
    batch = make_batch(method)
    examined(method, batch)
    sums = HealthSums(*examined(other, batch, method.components[-1].label).log[HEALTH])
    assert (sums.predicted > 0).sum() > 1
    assert torch.equal(sums.right, sums.kept)
    assert torch.equal(sums.true, sums.predicted)


def test_the_counter_of_host_reads_counts():
    with CountHostReads() as counted:
        value = torch.rand(3)
        value[value > 0.5].sum().item()
    assert len(counted.found) >= 2


@every_method
def test_strong_views_stay_out_of_the_statistics_where_that_is_offered(spec):
    method = make_method(spec)
    if not method.strong_apart:
        pytest.skip("no passes of strong views alone")
    seen = []
    for network in method.networks():
        network.strong_statistics = "separate"
        network.register_forward_pre_hook(
            lambda network, inputs, options: seen.append((options.get("strong", False), torch.is_grad_enabled())),
            with_kwargs=True,
        )
    method(make_batch(method), make_step(9))
    assert (False, True) in seen  # the labeled images
    mixes = getattr(method, "mixes", any(isinstance(module, Mixer) for module in method.modules()))
    assert any(strong for strong, _ in seen) == (bool(method.views.strong) or mixes)
    assert all(with_gradient for strong, with_gradient in seen if strong)
