"""``train.sync_batchnorm`` reaches every batch norm of student and teacher, before the optimiser is made."""

import pytest
from lightning_fabric import Fabric
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from evenseg.config import Config, override_config
from evenseg.training.build import build_method
from evenseg.training.fabric import make_fabric
from evenseg.training.probe import random_facts
from evenseg.training.step import OptimizerStep

OPTIONS = ["method=mean_teacher", "network.encoder=resnet18", "network.architecture=unet", "train.accelerator=cpu"]


@pytest.mark.parametrize(("wanted", "ranks"), [(True, 2), (False, 2), (True, 1)])
def test_all_of_them_or_none(wanted, ranks, monkeypatch):
    monkeypatch.setattr(Fabric, "world_size", property(lambda self: ranks))  # the pass itself needs GPUs
    config = override_config(Config(), [*OPTIONS, f"train.sync_batchnorm={str(wanted).lower()}"])
    method = build_method(config, random_facts(config, 3), weights=None)
    names = list(method.state_dict())
    step = OptimizerStep(method, config, make_fabric(config.train))
    for network in (method.student, method.teacher):
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        assert len(norms) > 10
        assert all(isinstance(norm, nn.SyncBatchNorm) == (wanted and ranks > 1) for norm in norms)
    assert list(method.state_dict()) == names
    trained = {id(p) for group in step.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in method.parameters() if p.requires_grad}
