"""How many pseudo-labels of each class a rule asks for, from the histogram of the predictions.

Rules see all predictions of an unlabeled set as one int64 histogram (C, CODES): pixels by predicted class and by the
code of their confidence. A code is the bit pattern of the confidence as a float16, which orders the numbers 0 to 1 as
0 to 15360. Shares of counts are floors, in whole numbers, of ratios of six digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.functional.confidence_codes import CODES, confidence_codes

_MILLION = 1_000_000
_EPSILON = 1e-6  # of CReST's official code, added to the shares on both sides of a quotient


def st_threshold(histogram: Tensor, ratio: float) -> int:
    """Self-training (ST) with a ratio: the one code, for all classes, from which on pixels are pseudo-labels.

    The highest at which the floor(ratio * pixels) most confident pixels are reached; all pixels of that code are kept,
    so that there may be more.

    Args:
        histogram: (C, CODES) int64.
        ratio: share of all pixels, in [0, 1], to six digits.

    Returns:
        A code; CODES where the ratio gives no pixel.

    Source: DARS (He et al., ICCV 2021), Section 4.3.1, with the labeling ratio of the other rules.
    """
    at_least = histogram.sum(dim=0).flip(0).cumsum(dim=0).flip(0)  # pixels of this code and above
    wanted = _part(at_least[0], torch.tensor(ratio))
    return int((at_least >= wanted).sum()) - 1 if wanted > 0 else CODES


def st_fixed(confidence: float) -> int:
    """Self-training with a fixed confidence: the code from which on pixels are pseudo-labels.

    The confidence is rounded as those of the pixels are: none that reaches it is lost, and some are kept that come as
    near as half a step of float16 (2.4e-4 just below 1).

    Raises:
        ValueError: the confidence is not in [0, 1].
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be 0 to 1, not {confidence}")
    return int(confidence_codes(torch.tensor(confidence)))


def cbst_quota(histogram: Tensor, ratio: float) -> Tensor:
    """Class-balanced self-training (CBST): of every class the same share of the pixels predicted as it.

    Args:
        histogram: (C, CODES) int64.
        ratio: in [0, 1], to six digits.

    Returns:
        (C,) int64, floor(ratio * predicted).

    Source: Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training",
    ECCV 2018, as DARS compares with it: the official code of DARS, https://github.com/CVMI-Lab/DARS, mode "cbst".
    """
    return _part(histogram.sum(dim=1), torch.tensor(ratio, device=histogram.device))


def crest_quota(histogram: Tensor, class_frequency: Tensor, *, ratio: float = 1.0, alpha: float = 1 / 3) -> Tensor:
    """CReST for pixels: the rarer a class is among the labels, the larger the share of its predictions that is kept.

    The class of rank l of L, from the most frequent on, keeps (n of rank L + 1 - l / n of rank 1)^alpha: the rarest
    keeps everything, since its predictions are the most precise ones. Classes without a label keep nothing and have
    no rank; of equally frequent classes the one of lower index comes first.

    Args:
        histogram: (C, CODES) int64.
        class_frequency: (C,) labeled pixels.
        ratio: share of the pixels that the rarest class keeps, in [0, 1], to six digits; 1 in the paper.
        alpha: >= 0; 0 is CBST.

    Returns:
        (C,) int64, floor(ratio * share * predicted).

    Source: Wei et al., "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced Semi-Supervised Learning",
    CVPR 2021, Section 3.2, of images; its code, https://github.com/google-research/crest, takes 1 / alpha = 3.
    """
    frequency = class_frequency.double()
    order = frequency.argsort(descending=True, stable=True)
    order = order[frequency[order] > 0]
    share = torch.zeros_like(frequency)
    share[order] = (frequency[order.flip(0)] / frequency.amax()).pow(alpha)
    return _part(histogram.sum(dim=1), ratio * share)


def alignment_bias(prior: Tensor, mean_prediction: Tensor, *, power: float = 1.0) -> Tensor:
    """Distribution alignment of CReST+: what to add to logits, so that the mean prediction is about the prior.

    The softmax of the sum is p * prior^power / mean prediction, renormalised.

    Args:
        prior: (C,) labeled pixels or shares; a class of 0 gets no share, whatever the power.
        mean_prediction: (C,) mean probability of each class over the unlabeled pixels.
        power: in [0, 1]; 1 aims at the prior, 0 at equal shares. CReST+ goes from 1 to 0.5 over its generations.

    Returns:
        (C,) float64, finite.

    Source: CReST (see ``crest_quota``), Section 3.3, and ``pseudo_target_fn`` of its code.
    """
    share = prior.double() / prior.double().sum()
    target = torch.where(share > 0, share.pow(power), 0.0)
    return ((target / target.sum() + _EPSILON) / (mean_prediction.double() + _EPSILON)).log()


def _part(count: Tensor, ratio: Tensor) -> Tensor:
    """floor(ratio * count) of int64 counts up to 9e12; exact: floating point would turn 0.29 * 100 into 28."""
    return count * (ratio.double() * _MILLION).round().long() // _MILLION
