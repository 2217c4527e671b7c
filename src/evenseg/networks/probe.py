"""One tiny image through the parts of a network: do they fit, how wide are the maps, and which parameters are idle?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Run = Callable[[Tensor], tuple[list[Tensor], Tensor, Tensor]]  # images to encoder maps, decoder output, logits


class Probed(NamedTuple):
    """What was found out.

    smallest: side of the smallest image that passes.
    low: position of the map at stride 4 among the encoder's, the first of a plain transformer.
    maps: channels of all of them.
    decoder: channels of the decoder's output.
    seen: position and channels of the maps that the decoder's output depends on.
    pooled: names of the batch norms that see single values.
    idle: parameters that the logits do not depend on: of the final norm of a transformer, of stages left out.
    """

    smallest: int
    low: int
    maps: list[int]
    decoder: int
    seen: dict[int, int]
    pooled: list[str]
    idle: list[nn.Parameter]


def probe(network: nn.Module, run: Run, multiple: int, unfit: Callable[[Exception], Exception]) -> Probed:
    """Finds out about a network in eval mode.

    Args:
        network: with ``encoder`` and ``decoder``.
        run: it without its enlargement.
        multiple: sides of images are multiples of it.
        unfit: the error for parts that do not go together, from the one that they raise.
    """
    smallest = _smallest_side(run, multiple, unfit)
    # so large that a map of one pixel is a pooled one, also at stride 32 of a transformer's patches
    side = multiple * -(-2 * max(smallest, 32) // multiple)
    pooled: list[str] = []
    hooks = [
        module.register_forward_pre_hook(partial(_note_pooled, pooled, name))
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    with torch.enable_grad():
        maps, decoded, logits = run(torch.zeros(1, 3, side, side))
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(logits.sum(), trainable, allow_unused=True)
        for hook in hooks:
            hook.remove()
        seen = _seen_by_the_decoder(network, side)
    return Probed(
        smallest,
        next(i for i, m in enumerate(maps) if m.shape[1] and m.shape[-1] * 4 <= side),
        [each.shape[1] for each in maps],
        decoded.shape[1],
        seen,
        pooled,
        [parameter for parameter, gradient in zip(trainable, gradients, strict=True) if gradient is None],
    )


@torch.no_grad()
def _smallest_side(run: Run, multiple: int, unfit: Callable[[Exception], Exception]) -> int:
    """Decoders with pooling of their own refuse small maps."""
    for side in (multiple, 2 * multiple, 4 * multiple, 8 * multiple):
        try:
            run(torch.zeros(1, 3, side, side))
        except Exception as error:
            refusal = error
        else:
            return side
    raise unfit(refusal) from refusal


def _seen_by_the_decoder(network: nn.Module, side: int) -> dict[int, int]:
    encoded = network.get_submodule("encoder")(torch.zeros(1, 3, side, side))
    maps = encoded[0] if isinstance(encoded, tuple) else encoded  # a transformer's come with its tokens
    leaves = [each.detach().requires_grad_() for each in maps]
    decoded = network.get_submodule("decoder")((leaves, encoded[1]) if isinstance(encoded, tuple) else leaves)
    gradients = torch.autograd.grad(decoded.sum(), leaves, allow_unused=True)
    found = enumerate(zip(leaves, gradients, strict=True))
    return {position: leaf.shape[1] for position, (leaf, gradient) in found if gradient is not None}


def _note_pooled(pooled: list[str], name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
    if inputs[0].shape[-2:].numel() == 1:
        pooled.append(name)
