"""Labels in which a branch for subclasses has had its say, as it has in training."""

from __future__ import annotations

from torch import Tensor, nn

from evenseg.components.subclass_branch import SubclassBranch
from evenseg.methods.base import Method, Predictor
from evenseg.networks.base import SegmentationNetwork


class Regularized(nn.Module):
    """Images (B, 3, H, W) to regularised class probabilities (B, C, H, W), which sum to 1 at most.

    Source: Guan et al., "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation" (USRN), CVPR
    2022, Eq. 4, 6 and 7; that DARS takes its labels and confidences from them is our reading of Table 8.
    """

    def __init__(self, network: SegmentationNetwork, branch: SubclassBranch) -> None:
        super().__init__()
        self.network, self.branch = network, branch

    def forward(self, image: Tensor) -> Tensor:
        """float32."""
        return self.branch.regularised(self.network(image))


def regularized_predictor(method: Method, predictor: nn.Module) -> Regularized | None:
    """One of a method's networks with its branch; None where it has none that regularises."""
    branch = next((part for part in method.components if isinstance(part, SubclassBranch)), None)
    if branch is None or not branch.regularization or not isinstance(predictor, Predictor):
        return None
    network = predictor.network
    assert isinstance(network, SegmentationNetwork)
    return Regularized(network, branch)
