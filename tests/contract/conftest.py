"""Small batches and every registered method on a small network."""

from __future__ import annotations

import torch

from evenseg import registry
from evenseg.components.pseudo_labeled_loss import PseudoLabeledLoss
from evenseg.functional import random
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.mode import unchanged
from evenseg.types import Batch, DataFacts, LabeledBatch, PasteSource, Step, UnlabeledBatch

CLASSES = 5
SIZE = 48
C3 = {
    "supervised_steps": 0,
    "ramp_steps": 0,
    "region_initial": None,
    "unsupervised_weight": 1.0,
    "anchors": 2,
    "small_groups": "variable",
}
COMPONENTS = {"subclass_branch": {"share": "high", "threshold": 0.2}}  # what they need here
PSEUDO_LABELED = "pseudo_labeled"  # weight and power of the loss on them; no argument of a method
BALANCED = "balanced"  # the student says all classes about equally often, not nearly one alone; no argument either
CAC = {"threshold": 0.2, "negatives": 20, BALANCED: True}
DES4 = {"dimension": 8, "proto_hold": 0, "temperature": 0.5, "unsupervised_weight": 0.005}
# with group norm its gradients move by 5e-4 where weights move by a ten-millionth; small ones for that
U2PL = {
    "queue": 20,
    "first_queue": 30,
    "queued": 5,
    "pool": 16,
    "anchors": 8,
    "dimension": 16,
    "negatives": 4,
    "unsupervised_weight": 0.005,
    "contrast_weight": 0.005,
}
# every method in the table, and readings of them that take another path
VARIANTS: dict[str, dict] = {
    **{name: {"name": name} for name in registry.names("method")},
    "supervised with pseudo-labels": {"name": "supervised", "ema_decay": 0.9, PSEUDO_LABELED: (0.5, 2.0)},
    "supervised with a teacher": {"name": "supervised", "ema_decay": 0.9, "supervised_loss": "class_weighted"},
    # its weight of 100 magnifies the rounding of float32 beyond what one and two ranks may differ by
    "mean_teacher official": {
        "name": "mean_teacher",
        "preset": "official",
        "supervised_loss": "focal",
        "unsupervised_weight": 10.0,
    },
    "mean_teacher strong": {
        "name": "mean_teacher",
        "student_view": "strong",
        "teacher_mode": "eval",
        "teacher_buffers": "ema",
    },
    "cutmix_seg cross-entropy": {
        "name": "cutmix_seg",
        "loss": "cross_entropy",
        "weighting": "confidence",
        "ramp_steps": 5,
    },
    "cutmix_seg official": {"name": "cutmix_seg", "preset": "official", "threshold": 0.25},
    "cutmix_seg classmix": {"name": "cutmix_seg", "mixer": "classmix", "weighting": "none", "supervised_loss": "ohem"},
    "classmix": {"name": "classmix", "threshold": 0.25, BALANCED: True},
    "classmix other readings": {
        "name": "classmix",
        "preset": "voc",
        "weighting": "none",
        "ramp_steps": 5,
        "teacher_mode": "eval",
        "teacher_buffers": "copy",
    },
    "fixmatch official": {"name": "fixmatch", "preset": "official", "threshold": 0.2},
    "fixmatch with components": {
        "name": "fixmatch",
        "threshold": 0.0,
        "ema_decay": 0.9,
        "components": [{"name": "threshold", "threshold": 0.2}],
    },
    "unimatch_v2 with components": {
        "name": "unimatch_v2",
        "threshold": 0.2,
        "dropout": "independent",
        "mixer": "classmix",
        "ramp_steps": 5,
        "components": ["dynamic_reweighting", "equalization_sampling"],
    },
    "fixmatch with plug-ins": {
        "name": "fixmatch",
        "threshold": 0.0,
        "components": [
            {"name": "distribution_alignment", "wanted": "predictions", "power": 0.5},
            {"name": "adaptive_threshold", "initial": 0.2, "per_class": True},
            {"name": "logit_adjustment", "pseudo_labels": True, "losses": "labeled", "share": "predicted", "tau": 0.5},
            {"name": "blv_noise", "unlabeled": "labeled"},
        ],
    },
    "cps with noise": {"name": "cps", "components": [{"name": "blv_noise", "sigma": 0.5}, "logit_adjustment"]},
    "unimatch": {"name": "unimatch", "threshold": 0.2},
    "unimatch official": {"name": "unimatch", "preset": "official", "threshold": 0.2},
    "unimatch with components": {
        "name": "unimatch",
        "preset": "cityscapes",
        "joint_pass": False,
        "perturbation": 0.25,
        "ema_decay": 0.9,
        "ramp_steps": 5,
        "mixer": "adaptive_cutmix",
        "components": [{"name": "dynamic_region", "initial": 0.2}, "equalization_sampling"],
    },
    "unimatch without disturbed features": {
        "name": "unimatch",
        "feature_weight": 0.0,
        "strong_views": 1,
        "threshold": 0.2,
    },
    # maps of 2x2 cells have few anchors; a weight of 50 would magnify rounding
    "c3": {"name": "c3", **C3},
    "c3 official": {"name": "c3", "preset": "official", **C3, "gather_contrast": True},
    "c3 other readings": {
        "name": "c3",
        **C3,
        "teacher_all": True,
        "mixing": "cross_only",
        "teacher_view": "strong",
        "per_image": True,
        "class_reduction": "sum",
        "supervised_steps": 1,
    },
    "cutmix_seg with contrast": {
        "name": "cutmix_seg",
        "weighting": "none",
        "components": [
            {"name": "dynamic_region", "initial": 0.2, "hard_power": 0.5},
            {"name": "pixel_contrast", "anchors": 2, "small_groups": "variable", "dimension": 16},
        ],
    },
    "mean_teacher with regions and contrast": {
        "name": "mean_teacher",
        "unsupervised_weight": 1.0,
        "components": [
            {"name": "dynamic_region", "initial": None},
            {
                "name": "pixel_contrast",
                "weight": 0.01,
                "anchors": 2,
                "small_groups": "variable",
                "warmup": True,
                "sampling": "random",
            },
        ],
    },
    "ael official": {"name": "ael", "preset": "official"},
    "ael other readings": {
        "name": "ael",
        "indicator": "margin",
        "reduction": "image",
        "class_map": "teacher",
        "paste_source": "containing",
        "paste_excluded": ["a"],
        "student_view": "strong",
        "normalize": "valid",
        "threshold": 0.2,
    },
    # with group norm, the few pixels that keep weight magnify rounding as well
    "ael without its mixers": {
        "name": "ael",
        "parts": ["DR", "AES"],
        "indicator": "entropy",
        "unsupervised_weight": 0.3,
    },
    "cac": {"name": "cac", **CAC},
    "cac with components": {
        "name": "cac",
        **CAC,
        "student_view": "weak",
        "negative_steps": 1,
        "negatives": 5,
        "ramp_steps": 5,
        "components": [
            {"name": "dynamic_region", "initial": 0.2},
            {"name": "pixel_contrast", "weight": 0.01, "anchors": 2, "small_groups": "variable", "dimension": 16},
            "equalization_sampling",
        ],
    },
    "u2pl": {"name": "u2pl", **U2PL, BALANCED: True},
    "u2pl other readings": {
        "name": "u2pl",
        **U2PL,
        BALANCED: True,
        "student_view": "strong",
        "mixer": "classmix",
        "low_rank": 1,
        "high_rank": 3,
        "drop_percent": 50.0,
        "ramp_steps": 5,
        "supervised_steps": 1,
        "components": [
            {"name": "dynamic_region", "initial": 0.2},
            {"name": "pixel_contrast", "weight": 0.01, "anchors": 2, "small_groups": "variable", "dimension": 16},
        ],
    },
    "u2pl with adaptive_cutmix": {"name": "u2pl", **U2PL, "mixer": "adaptive_cutmix", "contrast_percent": 50.0},
    "cps cutmix": {"name": "cps", "preset": "cutmix", "ramp_steps": 5},
    "cps with components": {
        "name": "cps",
        "labeled_consistency": False,
        "mixer": {"name": "cutmix", "probability": 0.5},
        "supervised_loss": "ohem",
        "components": [
            {"name": "dynamic_region", "initial": 0.2},
            {"name": "pixel_contrast", "weight": 0.01, "anchors": 2, "small_groups": "variable", "dimension": 16},
            "equalization_sampling",
        ],
    },
    **{
        f"mean_teacher with {name}": {
            "name": "mean_teacher",
            "teacher_mode": "eval",
            "teacher_buffers": "ema",
            "components": [{"name": name, **COMPONENTS.get(name, {})}],
        }
        for name in registry.names("component")
    },
    # with group norm a label that is nearly tied may turn over by rounding; small weights keep that below what is told
    "usrn_joint": {
        "name": "usrn_joint",
        "share": "none",
        "threshold": 0.0,
        "gate": "always",
        "unsupervised_weight": 0.0005,
    },
    "usrn_joint official": {
        "name": "usrn_joint",
        "preset": "official",
        "share": "high",
        "threshold": 0.0,
        "weak_pass": "eval",
        "places": "decoder",
    },
    "usrn_joint other readings": {
        "name": "usrn_joint",
        "share": "none",
        "threshold": 0.2,
        "gate": "mapped",
        "closed": "drop",
        "mapping": "soft",
        "subclass_loss_at": "decoder",
        "places": "full",
        "normalize": "kept",
        "weak_pass": "teacher",
        "ema_decay": 0.9,
    },
    "usrn_joint without subclasses": {"name": "usrn_joint", "subclass_supervision": False, "threshold": 0.2},
    "cutmix_seg with subclasses": {
        "name": "cutmix_seg",
        "weighting": "none",
        "components": [{"name": "subclass_branch", "share": "none", "threshold": 0.0, "gate": "always"}],
    },
    # the paper adds its branch to CPS and CAC (Table 8)
    **{
        f"{name} with subclasses": {
            "name": name,
            **options,
            "components": [
                {
                    "name": "subclass_branch",
                    "share": "none",
                    "threshold": 0.0,
                    "gate": "never",
                    "unsupervised_weight": 0.005,
                }
            ],
        }
        for name, options in {"cps": {}, "cac": CAC, "fixmatch": {"threshold": 0.2}, "c3": C3}.items()
    },
    # at temperature 0.1 rounding would be magnified, as it is by a layer norm of nearly equal numbers, and wherever it
    # turns over a label that is nearly tied
    "des4": {"name": "des4", **DES4},
    "des4 held": {"name": "des4", "dimension": 8},
    "des4 baseline": {
        "name": "des4",
        **DES4,
        "decouple": False,
        "shared_head": False,
        "teacher_buffers": "copy",
    },
    "des4 other readings": {
        "name": "des4",
        **DES4,
        "shared_head": False,
        "reweight_source": "gt",
        "reweight_normalize": "batch",
        "reduction": "class_mean",
        "student_view": "strong",
        "threshold": 0.15,
        "eval_decoder_ema": True,
        "learn_temperature": True,
        "proto_start": "first_batch",
        "sampling": "quantity",
        "supervised_steps": 1,
    },
    "des4 further readings": {
        "name": "des4",
        **DES4,
        "teacher_buffers": "own",
        "teacher_unlabeled": True,
        "center": True,
        "proto_start": "warmup_mean",
        "proto_hold": 2,
        "normalize_features": False,
        "correct_only": True,
        "estimator": "weighted",
        "zone_width": "quantile",
        "alpha_schedule": "tan",
        "entropy_norm": True,
        "empty_zone": "midpoint",
        "ratio": "batch_min",
        "reweight": False,
    },
    "cutmix_seg with adaptive_cutmix": {
        "name": "cutmix_seg",
        "mixer": "adaptive_cutmix",
        "components": [
            {"name": "pixel_contrast", "weight": 0.01, "anchors": 2, "small_groups": "variable", "dimension": 16}
        ],
    },
    "fixmatch official with adaptive_cutmix": {
        "name": "fixmatch",
        "preset": "official",
        "threshold": 0.2,
        "mixer": "adaptive_cutmix",
        "components": ["equalization_sampling"],
    },
}


def make_method(spec: dict, *, norm: str = "batch", seed: int = 0) -> Method:
    torch.manual_seed(seed)
    network = SegmentationNetwork("linknet", "tu-mobilenetv3_small_050", num_classes=CLASSES, norm=norm)
    data = facts()
    arguments = {key: value for key, value in spec.items() if key not in (PSEUDO_LABELED, BALANCED)}
    method = registry.build("method", arguments, network=network, class_frequency=data.class_frequency, data=data)
    if PSEUDO_LABELED in spec:
        method.pseudo_labeled_loss = PseudoLabeledLoss(*spec[PSEUDO_LABELED])
    if spec.get(BALANCED):
        balance(method.student)
    return method


@torch.no_grad()
def balance(network: SegmentationNetwork) -> None:
    """Takes what is common to all pixels out of the logits."""
    with unchanged(network):
        logits = network(torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))).logits
    network.segmentation_head.bias -= logits.mean((0, 2, 3))


def facts(labeled: int = 6, unlabeled: int = 9, batch: int = 4) -> DataFacts:
    presence = torch.rand(CLASSES, labeled, generator=torch.Generator().manual_seed(0)) < 0.7
    names = tuple("abcdefgh"[:CLASSES])
    counts = torch.tensor([4, 2, 1, 1, 1])  # subclasses
    return DataFacts(names, torch.tensor([1000, 500, 100, 20, 5]), labeled, unlabeled, batch, batch, presence, counts)


def make_batch(method: Method, *, size: int = 4, seed: int = 0, unlabeled: bool = True) -> Batch:
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(size, 3, SIZE, SIZE, generator=g)
    label = torch.randint(0, CLASSES, (size, SIZE // 8, SIZE // 8), generator=g)
    label = label.repeat_interleave(8, 1).repeat_interleave(8, 2)
    label[0, :8] = 255
    maps = {"subclass": subclasses(label)}
    views = method.wanted_views()
    paste = None
    if views.paste is not None:
        second = label.roll(1, 0).flip(2)
        second[-1] = 255  # nothing to paste
        image_of_second = torch.rand(size, 3, SIZE, SIZE, generator=g)
        paste = PasteSource(image_of_second, second, torch.arange(size), {"subclass": subclasses(second)})
    labeled = LabeledBatch(image, label, torch.arange(size), maps, paste=paste)
    if not (unlabeled and method.views.unlabeled):
        return Batch(labeled, pseudo_labeled=pseudo_labeled(method, labeled, g))
    size *= 2 if views.partners else 1
    weak = torch.rand(size, 3, SIZE, SIZE, generator=g)
    valid = torch.ones(size, SIZE, SIZE, dtype=torch.bool)
    valid[1, :, 40:] = False
    strong = tuple((weak + 0.1 * (view + 1)).clamp(max=1) for view in range(method.views.strong))
    return Batch(labeled, UnlabeledBatch(weak, strong, valid, torch.arange(size)))


def subclasses(label: torch.Tensor) -> torch.Tensor:
    """A subclass of its class for every pixel, changing from column to column."""
    counts = facts().subclass_counts
    first = counts.cumsum(0) - counts
    ignored = label == 255
    label = label.masked_fill(ignored, 0)
    column = torch.arange(SIZE).expand_as(label)
    return (first[label] + column % counts[label]).masked_fill(ignored, 255)


def pseudo_labeled(method: Method, labeled: LabeledBatch, g: torch.Generator) -> LabeledBatch | None:
    """As many more images, most of whose pixels have no label, where the variant is to have them."""
    if method.pseudo_labeled_loss == PseudoLabeledLoss():
        return None
    label = labeled.label.roll(1, 0)
    label[:2], label[2, :40] = 255, 255
    return LabeledBatch(torch.rand(labeled.image.shape, generator=g), label, labeled.index)


def make_step(index: int, *, total: int = 10, slot: int = 0) -> Step:
    return Step(index, total, random.generator(0, "step", index), 0, slot, slot)
