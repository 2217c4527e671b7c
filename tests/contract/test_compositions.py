"""Every component on every method that it goes with; in the fast tests a sample in which each of both occurs."""

import re

import pytest
import torch

from evenseg import registry
from evenseg.components.base import Component
from evenseg.config import Config, override_config
from evenseg.errors import InputError
from evenseg.methods.composition import refusal
from evenseg.training.build import method_class

from .conftest import C3, CAC, COMPONENTS, DES4, U2PL, make_batch, make_method, make_step

METHODS, PARTS = registry.names("method"), registry.names("component")
METHOD_OPTIONS = {
    "c3": C3,
    "cac": CAC,
    "des4": DES4,
    "u2pl": U2PL,
    "usrn_joint": {"share": "high", "threshold": 0.2},
    "mean_teacher": {"unsupervised_weight": 1.0, "teacher_mode": "eval", "teacher_buffers": "ema"},
}
PART_OPTIONS = {"pixel_contrast": {"anchors": 2, "small_groups": "variable", "dimension": 16}, **COMPONENTS}


def reason(method, part):
    return refusal(registry.resolve("method", method), registry.resolve("component", part))


LEGAL = [(method, part) for method in METHODS for part in PARTS if reason(method, part) is None]
ILLEGAL = [(method, part) for method in METHODS for part in PARTS if reason(method, part) is not None]


def covering():
    """Few pairs in which every method and every component occurs."""
    chosen, methods, parts = [], set(), set()
    for method, part in sorted(LEGAL, key=lambda pair: (spread(pair), pair)):
        if method not in methods or part not in parts:
            chosen.append((method, part))
            methods.add(method)
            parts.add(part)
    assert methods == set(METHODS)
    assert parts == set(PARTS)
    return chosen


def spread(pair):
    """Orders pairs along the diagonal of the two lists, so that few cover both."""
    method, part = pair
    return (METHODS.index(method) - PARTS.index(part)) % len(METHODS)


SAMPLE = covering()
every_pair = pytest.mark.parametrize(
    ("method", "part"),
    [pytest.param(*pair, marks=() if pair in SAMPLE else pytest.mark.slow, id=" with ".join(pair)) for pair in LEGAL],
)


def spec(method, *parts):
    components = [{"name": part, **PART_OPTIONS.get(part, {})} for part in parts]
    return {"name": method, **METHOD_OPTIONS.get(method, {}), "components": components}


def steps(method, batches, first):
    """Losses of some steps with their updates."""
    losses = []
    for index, batch in enumerate(batches, start=first):
        output = method(batch, make_step(index))
        optimizer = torch.optim.SGD([p for group in method.param_groups() for p in group.parameters], lr=0.01)
        sum(output.losses.values()).backward()
        for name, parameter in method.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
        optimizer.step()
        optimizer.zero_grad()
        method.on_step_end(make_step(index))
        losses.append({name: value.item() for name, value in output.losses.items()})
    return losses


@every_pair
def test_legal_pairs_train_and_resume_exactly(method, part):
    made = make_method(spec(method, part))
    batches = [make_batch(made, seed=seed) for seed in range(3)]
    steps(made, batches[:1], 0)
    resumed = make_method(spec(method, part), seed=1)
    resumed.load_state_dict(made.state_dict())
    assert steps(made, batches[1:], 1) == steps(resumed, batches[1:], 1)
    for (name, ours), theirs in zip(made.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(("method", "part"), ILLEGAL)
def test_illegal_pairs_are_refused_before_anything_starts(method, part):
    config = override_config(Config(), [f"method={method}", f"method.components=[{part}]"])
    with pytest.raises(InputError, match=re.escape(f"does not go with {method}: {reason(method, part)}")):
        method_class(config)


def test_a_component_that_is_there_twice_is_refused():
    config = override_config(Config(), ["method=cutmix_seg", "method.components=[threshold, threshold]"])
    with pytest.raises(InputError, match=r"method\.components\.1: Threshold is there twice"):
        method_class(config)


@pytest.mark.parametrize("method", [name for name in METHODS if reason(name, "subclass_branch") is None])
def test_a_branch_without_a_say_leaves_the_method_what_it_is(method):
    plain = make_method(spec(method))
    silent = {
        "name": "subclass_branch",
        "share": "high",
        "regularization": False,
        "self_training": False,
        "weight": 0.0,
    }
    branched = make_method({**spec(method), "components": [silent]})
    batch = make_batch(plain)
    expected, found = plain(batch, make_step(3)).losses, branched(batch, make_step(3)).losses
    assert {name for name in found if not name.startswith("subclass")} == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), abs=1e-6)


def test_what_acts_on_pseudo_labels_alone_is_known_from_its_verbs():
    class Refines(Component):
        def refine(self, target, weak, step):
            return target

    class Counts(Refines):
        def update(self, views, step):
            pass

    assert Refines.needs_pseudo_labels
    assert not Counts.needs_pseudo_labels
    assert not Component.needs_pseudo_labels
