"""Compiled networks give what eager ones do, in every method and with every component."""

import pytest
import torch

from .conftest import VARIANTS, make_batch, make_method, make_step

FAST = ("ael",)


def variants():
    for name, spec in VARIANTS.items():
        yield pytest.param(spec, id=name, marks=() if name in FAST else pytest.mark.slow)


@pytest.mark.parametrize("spec", variants())
def test_a_compiled_step_is_the_eager_one(spec):
    eager, compiled = make_method(spec, norm="frozen"), make_method(spec, norm="frozen")
    for network in compiled.networks():
        network.compile(backend="aot_eager")
    batch = make_batch(eager)
    results = []
    for method in (eager, compiled):
        output = method(batch, make_step(3))
        sum(output.losses.values()).backward()
        gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
        method.on_step_end(make_step(3))
        results.append((output, gradients, method.state_dict()))
    (one, left, state), (two, right, other) = results
    assert one.losses.keys() == two.losses.keys()
    for name, value in one.losses.items():
        torch.testing.assert_close(two.losses[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert left.keys() == right.keys()
    for name, gradient in left.items():
        torch.testing.assert_close(right[name], gradient, rtol=1e-2, atol=1e-4, msg=name)
    assert [n.replace("_orig_mod.", "") for n in other] == list(state)
