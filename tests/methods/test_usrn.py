"""USRN's joint training against a transcription of its loss (Eq. 2-8), and what its parts promise."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg import registry
from evenseg.errors import InputError
from evenseg.functional import random
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import Batch, DataFacts, LabeledBatch, Step, UnlabeledBatch

CLASSES, SIZE = 3, 64
COUNTS = torch.tensor([3, 2, 1])
PARENT = [0, 0, 0, 1, 1, 2]
STEP = Step(3, 10, random.generator(0), 0)


def facts(counts=COUNTS):
    return DataFacts(("a", "b", "c"), torch.tensor([600, 400, 200]), 4, 4, 2, 2, None, counts)


def make(*, counts=COUNTS, norm="frozen", **options):
    torch.manual_seed(0)
    network = SegmentationNetwork("fpn", "tu-test_resnet", num_classes=CLASSES, norm=norm)
    method = registry.build("method", {"name": "usrn_joint", **options}, network=network, data=facts(counts))
    for module in method.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0  # so that two passes say the same
    with torch.no_grad():  # a random network says the same of all pixels, and is sure of nothing
        image = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        coarse = method.student(image).coarse
        heads = {"class": method.student.segmentation_head}
        heads |= {name: branch.segmentation_head for name, branch in method.student.branches.items()}
        for name, head in heads.items():
            mean, deviation = coarse[name].mean((0, 2, 3)), coarse[name].std((0, 2, 3))
            head.weight.mul_(5 / deviation.view(-1, 1, 1, 1))
            head.bias.copy_(5 * (head.bias - mean) / deviation)
    return method


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    subclass = torch.randint(0, 6, (2, SIZE // 8, SIZE // 8), generator=g)
    subclass = subclass.repeat_interleave(8, 1).repeat_interleave(8, 2)
    label = torch.tensor(PARENT)[subclass]
    label[0, :5], subclass[0, :5] = 255, 255
    labeled = LabeledBatch(torch.rand(2, 3, SIZE, SIZE, generator=g), label, torch.arange(2), {"subclass": subclass})
    weak = torch.rand(2, 3, SIZE, SIZE, generator=g)
    valid = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    valid[1, 40:] = False
    return Batch(labeled, UnlabeledBatch(weak, ((weak * 0.7).clamp(0, 1),), valid, torch.arange(2)))


def halved(logits):
    return F.avg_pool2d(logits, 2)


def transcription(method, batch, *, gamma=0.75, gate=True, closed_falls_back=True):
    """(L_s, L_s sub, L_st, L_sub) by loops over the cells at half of the decoder's size, in the paper's words."""
    student = method.student
    labeled = student(batch.labeled.image)
    supervised = F.cross_entropy(labeled.logits, batch.labeled.label, ignore_index=255)
    enlarged = F.interpolate(labeled.coarse["subclass"], (SIZE, SIZE), mode="bilinear", align_corners=True)
    subclasses = F.cross_entropy(enlarged, batch.labeled.maps["subclass"], ignore_index=255)
    strong, weak = student(batch.unlabeled.strong[0]), student(batch.unlabeled.weak)
    z_s, z_s_sub = halved(strong.coarse["class"]), halved(strong.coarse["subclass"])
    p, p_sub = halved(weak.coarse["class"]).softmax(1), halved(weak.coarse["subclass"]).softmax(1)
    l_st, l_sub, count, kept = 0.0, 0.0, 0, 0
    height, width = p.shape[2:]
    cells = height * 2
    # a cell lies on a pixel; a place counts where all four of its cells do
    row_valid = [
        [bool(batch.unlabeled.valid[b, round(i * (SIZE - 1) / (cells - 1)), 0]) for i in range(cells)] for b in range(2)
    ]
    for b in range(2):
        for y in range(height):
            for x in range(width):
                if not (row_valid[b][2 * y] and row_valid[b][2 * y + 1]):
                    continue
                count += 1
                q, q_sub = p[b, :, y, x].tolist(), p_sub[b, :, y, x].tolist()
                s_hat = q_sub.index(max(q_sub))
                if max(q_sub) > gamma:
                    l_sub = l_sub - F.log_softmax(z_s_sub[b, :, y, x], 0)[s_hat]
                entropy = -sum(v * math.log(v) for v in q if v > 0) / math.log(CLASSES)
                entropy_sub = -sum(v * math.log(v) for v in q_sub if v > 0) / math.log(6)
                r = [v * (PARENT[s_hat] == c) for c, v in enumerate(q)]
                if gate and entropy_sub > entropy:
                    r = q if closed_falls_back else [0.0] * CLASSES
                c_hat = r.index(max(r))
                if max(r) > gamma:
                    kept += 1
                    l_st = l_st - F.log_softmax(z_s[b, :, y, x], 0)[c_hat]
    assert 0 < kept < count  # or the transcription says little
    return supervised, subclasses, l_st / count, l_sub / count


@pytest.mark.parametrize("options", [{}, {"gate": "always"}, {"closed": "drop"}, {"threshold": 0.4}])
def test_losses_are_those_of_the_paper(batch, options):
    method = make(**options)
    output = method(batch, STEP)
    expected = transcription(
        method,
        batch,
        gamma=options.get("threshold", 0.75),
        gate="gate" not in options,
        closed_falls_back="closed" not in options,
    )
    names = ("supervised", "subclass", "unsupervised", "subclass_self_training")
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(output.losses[name], torch.as_tensor(value), rtol=1e-4, atol=1e-6, msg=name)


MODELS = {  # of Table 3: what each adds
    "baseline": {"subclass_supervision": False, "self_training": False},
    "I": {"self_training": False, "regularization": False, "subclass_self_training": False},
    "II": {"regularization": False, "subclass_self_training": False},
    "III": {"subclass_self_training": False, "gate": "always"},
    "IV": {"gate": "always"},
    "USRN": {},
}


def test_rows_of_table_3_are_overrides(batch):
    """Each switch changes what it names and leaves the rest alone."""
    losses = {name: make(**options)(batch, STEP).losses for name, options in MODELS.items()}
    assert set(losses["baseline"]) == {"supervised", "unsupervised"}
    assert losses["baseline"]["unsupervised"] == 0
    assert losses["I"]["subclass"] > 0
    assert losses["I"]["unsupervised"] == 0
    assert "subclass_self_training" not in losses["II"]
    assert losses["II"]["unsupervised"] > losses["III"]["unsupervised"] > 0  # vetoes take pixels out
    assert losses["III"]["unsupervised"] == losses["IV"]["unsupervised"]
    assert losses["IV"]["subclass_self_training"] > 0
    assert losses["USRN"]["unsupervised"] > losses["IV"]["unsupervised"]  # the gate takes vetoes back
    assert len({each["supervised"].item() for each in losses.values()}) == 1  # starts and labels are the same


def test_without_gate_and_weight_it_is_plain_self_training(batch):
    plain = make(subclass_supervision=False)(batch, STEP).losses
    never = make(gate="never", subclass_weight=0.0)(batch, STEP).losses
    torch.testing.assert_close(sum(never.values()), sum(plain.values()))


def test_gradients_flow_through_the_strong_view_alone_and_each_loss_stays_in_its_branch(batch):
    method = make()
    batch.unlabeled.weak.requires_grad_()
    batch.unlabeled.strong[0].requires_grad_()
    losses = method(batch, STEP).losses
    inputs = [batch.unlabeled.weak, batch.unlabeled.strong[0]]
    own = list(method.student.segmentation_head.parameters())
    branch = list(method.student.branches["subclass"].segmentation_head.parameters())
    stem = [next(p for p in method.student.encoder.parameters() if p.requires_grad)]
    for name, inside, outside in (("unsupervised", own, branch), ("subclass_self_training", branch, own)):
        wanted = [*inputs, *inside, *outside, *stem]
        found = torch.autograd.grad(losses[name], wanted, allow_unused=True, retain_graph=True)
        weak, strong = found[:2]
        assert weak is None
        assert strong.abs().sum() > 0
        assert all(g.abs().sum() > 0 for g in found[2 : 2 + len(inside)])
        assert all(g is None for g in found[2 + len(inside) : -1])
        assert found[-1].abs().sum() > 0  # the stages that both share


def test_the_higher_the_threshold_the_fewer_places_are_kept(batch):
    kept = [float(make(threshold=gamma)(batch, STEP).log["selected_pixels"]) for gamma in (0.4, 0.6, 0.8, 0.99, 1.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1] == 0
    losses = make(threshold=1.0)(batch, STEP).losses
    assert losses["unsupervised"] == losses["subclass_self_training"] == 0


def test_padding_teaches_unless_the_official_reading_is_asked_for(batch):
    blank = batch._replace(unlabeled=batch.unlabeled._replace(valid=torch.zeros_like(batch.unlabeled.valid)))
    assert make()(blank, STEP).losses["unsupervised"] == 0
    assert make(preset="official")(blank, STEP).losses["unsupervised"] > 0


@pytest.mark.parametrize("places", ["half", "decoder", "full"])
@pytest.mark.parametrize("size", [(48, 64), (45, 61)])
def test_any_size_of_places_and_images(places, size, batch):
    method = make(places=places)
    cut = (slice(None), slice(None, size[0]), slice(None, size[1]))
    image = (slice(None), *cut)
    labeled = batch.labeled
    labeled = LabeledBatch(
        labeled.image[image], labeled.label[cut], labeled.index, {"subclass": labeled.maps["subclass"][cut]}
    )
    u = batch.unlabeled
    unlabeled = UnlabeledBatch(u.weak[image], (u.strong[0][image],), u.valid[cut], u.index)
    output = method(Batch(labeled, unlabeled), STEP._replace(health=True, picture=True))
    assert all(torch.isfinite(value) for value in output.losses.values())
    assert output.seen.label.shape == (2, *size)
    assert (output.log["subclass_veto"] <= output.log["subclass_gate_open"] + 1e-6).all()
    torch.testing.assert_close(output.log["subclass_predicted"].sum(), torch.tensor(1.0))


def test_what_is_scored_and_exported_has_no_branch(batch):
    method, plain = make(), make(subclass_supervision=False)
    plain.load_state_dict(
        {
            name: value
            for name, value in method.state_dict().items()
            if ".branches." not in name and "parent" not in name
        }
    )
    image = torch.rand(1, 3, 50, 70)
    assert torch.equal(method.eval().predictor()(image), plain.eval().predictor()(image))


def test_there_must_be_subclasses_one_count_for_each_class():
    with pytest.raises(InputError, match=r"there are no subclasses; set data\.subclasses"):
        make(counts=None)
    with pytest.raises(InputError, match="2 numbers for 3 classes"):
        make(counts=torch.tensor([1, 2]))
    with pytest.raises(InputError, match="there is no teacher; set ema_decay"):
        make(weak_pass="teacher")
    assert make(counts=None, subclass_supervision=False).components is not None
