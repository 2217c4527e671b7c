"""Subclasses and what they say of classes: maps between them, the entropy gate, regularised pseudo-labels.

Source of all: Guan, Huang, Xiao and Lu, "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation"
(USRN), CVPR 2022. C classes, class c with ``counts[c]`` subclasses whose ids follow those of the class before.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from evenseg.planes import largest_plane

Mapping = Literal["hard", "soft", "sum_argmax"]
Gate = Literal["normalised", "mapped", "raw", "always", "never"]
Closed = Literal["fallback", "drop"]


def subclass_offsets(counts: Tensor) -> Tensor:
    """First subclass of each class, (C,) int64, of (C,) counts."""
    return counts.cumsum(0) - counts


def parent_classes(counts: Tensor) -> Tensor:
    """The class of each subclass, (sum of counts,) int64, of (C,) int64 counts."""
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def parent_of(subclass: Tensor, parent: Tensor, *, ignore_subclass: int, ignore_index: int = 255) -> Tensor:
    """The classes of a map of subclasses, of its shape, int64.

    Args:
        subclass: int64, ids or ``ignore_subclass``, which becomes ``ignore_index``.
        parent: (K,) as of ``parent_classes``.
    """
    ignored = subclass == ignore_subclass
    return parent[subclass.masked_fill(ignored, 0)].masked_fill(ignored, ignore_index)


def class_prob(subclass_prob: Tensor, parent: Tensor, num_classes: int) -> Tensor:
    """Probability of each class, the sum over its subclasses: M(p*) of the paper.

    Args:
        subclass_prob: (B, K, H, W) probabilities.
        parent: (K,) as of ``parent_classes``.
        num_classes: C.

    Returns:
        (B, C, H, W) of the type of ``subclass_prob``.
    """
    batch, _, height, width = subclass_prob.shape
    mapped = subclass_prob.new_zeros(batch, num_classes, height, width)
    return mapped.index_add_(1, parent, subclass_prob)


def normalised_entropy(prob: Tensor, *, categories: int | None = None) -> Tensor:
    """Entropy over dim 1 divided by its largest possible value, log K; 0 where there is one category alone.

    Args:
        prob: (B, K, ...) probabilities; 0 log 0 = 0.
        categories: K; default: of ``prob``.

    Returns:
        (B, ...) float32 in [0, 1].
    """
    categories = prob.shape[1] if categories is None else categories
    entropy = torch.special.entr(prob.float()).sum(dim=1)
    return entropy / math.log(categories) if categories > 1 else torch.zeros_like(entropy)


def entropy_gate(prob: Tensor, subclass_prob: Tensor, parent: Tensor, *, mode: Gate = "normalised") -> Tensor:
    """Where the subclass branch is certain enough to be listened to (Eq. 6 and 7).

    Args:
        prob: (B, C, H, W), of the classes.
        subclass_prob: (B, K, H, W), of the subclasses.
        parent: (K,) as of ``parent_classes``.
        mode: ``normalised``: H(p*) / log K <= H(p) / log C, as the official code does; ``mapped``: H(M(p*)) <= H(p),
            Eq. 7 as printed; ``raw``: H(p*) <= H(p); ``always`` and ``never`` open.

    Returns:
        (B, H, W) bool, True where open; equal entropies open it.
    """
    if mode in ("always", "never"):
        return torch.full((prob.shape[0], *prob.shape[2:]), mode == "always", device=prob.device)
    if mode == "raw":
        return torch.special.entr(subclass_prob.float()).sum(1) <= torch.special.entr(prob.float()).sum(1)
    if mode == "mapped":
        subclass_prob = class_prob(subclass_prob, parent, prob.shape[1])
    elif mode != "normalised":
        raise ValueError(f"mode must be normalised, mapped, raw, always or never, not {mode!r}")
    return normalised_entropy(subclass_prob) <= normalised_entropy(prob)


class Verdict(NamedTuple):
    """What the subclasses say of every pixel.

    subclass: (B, H, W) int64, the most probable one. confidence: (B, H, W), its probability. label: (B, H, W) int64,
    the class that they vote for. factor: (B, C, H, W), what class probabilities are multiplied by; None: 1 at
    ``label`` and 0 elsewhere. open: (B, H, W) bool, whether they are listened to.
    """

    subclass: Tensor
    confidence: Tensor
    label: Tensor
    factor: Tensor | None
    open: Tensor


def verdict(
    prob: Tensor, subclass_prob: Tensor, parent: Tensor, *, mapping: Mapping = "hard", gate: Gate = "normalised"
) -> Verdict:
    """Subclass predictions mapped to classes (Eq. 3), and where they count.

    Args:
        prob, subclass_prob, parent: as of ``entropy_gate``.
        mapping: ``hard``: the class of the most probable subclass; ``soft``: M(p*); ``sum_argmax``: the class of the
            largest M(p*).
        gate: the mode of ``entropy_gate``.
    """
    confidence, subclass = largest_plane(subclass_prob)
    factor = None
    if mapping == "hard":
        label = parent[subclass]
    else:
        mapped = class_prob(subclass_prob, parent, prob.shape[1])
        label = largest_plane(mapped)[1]
        factor = mapped if mapping == "soft" else None
    return Verdict(subclass, confidence, label, factor, entropy_gate(prob, subclass_prob, parent, mode=gate))


def regularise(prob: Tensor, found: Verdict, *, closed: Closed = "fallback", renormalise: bool = False) -> Tensor:
    """Class probabilities times what the subclasses say of the classes (Eq. 4 and 6).

    Args:
        prob: (B, C, H, W), on the grid of ``found``.
        found: as of ``verdict``.
        closed: where the gate is closed the probabilities stay what they are (``fallback``) or become 0 (``drop``).
        renormalise: divide by the sum over classes; with one class left its probability is then 1.

    Returns:
        (B, C, H, W): it sums to 1 over C where the gate is closed, to less where it is open, unless renormalised.
    """
    shut = ~found.open.unsqueeze(1)
    if found.factor is None:
        classes = torch.arange(prob.shape[1], device=prob.device).view(1, -1, 1, 1)
        kept = classes == found.label.unsqueeze(1)
        product = prob * (kept | shut if closed == "fallback" else kept & ~shut)
    else:
        product = torch.where(shut, prob if closed == "fallback" else 0.0, prob * found.factor)
    if renormalise:
        product = product / product.sum(dim=1, keepdim=True).clamp(min=torch.finfo(product.dtype).tiny)
    return product
