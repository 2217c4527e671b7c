"""From a short name or ``file.py:Class`` to a class, imported when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
import zlib
from pathlib import Path
from types import ModuleType

from evenseg.errors import InputError
from evenseg.schema import nearest

SHORT_NAMES: dict[str, dict[str, str]] = {
    "method": {
        "supervised": "evenseg.methods.supervised:Supervised",
        "mean_teacher": "evenseg.methods.mean_teacher:MeanTeacher",
        "cutmix_seg": "evenseg.methods.cutmix_seg:CutMixSeg",
        "classmix": "evenseg.methods.classmix:ClassMix",
        "fixmatch": "evenseg.methods.fixmatch:FixMatch",
        "unimatch_v2": "evenseg.methods.unimatch_v2:UniMatchV2",
        "unimatch": "evenseg.methods.unimatch:UniMatch",
        "ael": "evenseg.methods.ael:AEL",
        "c3": "evenseg.methods.c3:C3SemiSeg",
        "usrn_joint": "evenseg.methods.usrn:USRN",
        "cps": "evenseg.methods.cps:CPS",
        "u2pl": "evenseg.methods.u2pl:U2PL",
        "cac": "evenseg.methods.cac:CAC",
        "des4": "evenseg.methods.des4:DES4",
    },
    "recipe": {
        "self_training": "evenseg.recipes.self_training:SelfTraining",
        "dars": "evenseg.recipes.self_training:SelfTraining",
        "usrn": "evenseg.recipes.usrn:USRN",
    },
    "component": {
        "threshold": "evenseg.components.threshold:Threshold",
        "confidence_bank": "evenseg.components.confidence_bank:ConfidenceBank",
        "dynamic_reweighting": "evenseg.components.adaptive_equalization:DynamicReweighting",
        "equalization_sampling": "evenseg.components.adaptive_equalization:EqualizationSampling",
        "adaptive_copy_paste": "evenseg.components.copy_paste:AdaptiveCopyPaste",
        "dynamic_region": "evenseg.components.dynamic_region:DynamicRegion",
        "pixel_contrast": "evenseg.components.pixel_contrast:PixelContrast",
        "adaptive_threshold": "evenseg.components.adaptive_threshold:AdaptiveThreshold",
        "distribution_alignment": "evenseg.components.distribution_alignment:DistributionAlignment",
        "logit_adjustment": "evenseg.components.logit_adjustment:LogitAdjustment",
        "blv_noise": "evenseg.components.logit_noise:LogitNoise",
        "subclass_branch": "evenseg.components.subclass_branch:SubclassBranch",
    },
    "mixer": {
        "cutmix": "evenseg.components.mixers:CutMix",
        "classmix": "evenseg.components.mixers:ClassMix",
        "adaptive_cutmix": "evenseg.components.adaptive_cutmix:AdaptiveCutMix",
        "none": "evenseg.components.base:Mixer",
    },
    "supervised_loss": {
        "cross_entropy": "evenseg.components.supervised_loss:CrossEntropy",
        "ohem": "evenseg.components.supervised_loss:OHEM",
        "focal": "evenseg.components.supervised_loss:Focal",
        "class_weighted": "evenseg.components.supervised_loss:ClassWeighted",
    },
}

KINDS = tuple(SHORT_NAMES)

_BASES = {
    "method": "evenseg.methods.base:Method",
    "recipe": "evenseg.recipes.base:Recipe",
    "component": "evenseg.components.base:Component",
    "mixer": "evenseg.components.base:Mixer",
    "supervised_loss": "torch.nn:Module",
}


def names(kind: str) -> list[str]:
    """Short names of a kind, in the order of the table."""
    return list(SHORT_NAMES[kind])


def resolve(kind: str, name: str) -> type:
    """The class behind a name.

    Args:
        kind: one of ``KINDS``.
        name: a short name, or ``file.py:Class`` for a class of one's own.

    Raises:
        InputError: no such name, file or class; the file cannot be imported; the class is of
            another kind.
    """
    if ":" not in name:
        target = SHORT_NAMES[kind].get(name)
        if target is None:
            hint = nearest(name, names(kind)) or f"; there are {', '.join(names(kind))}, and file.py:Class"
            raise InputError(f"{name!r} is no {_spoken(kind)}{hint}")
        return _load(target)
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py"):
        raise InputError(f"{name!r} is no {_spoken(kind)}; write a short name, or file.py:Class")
    found = getattr(_import_file(Path(file)), attribute, None)
    base = _load(_BASES[kind])
    if found is None:
        classes = [key for key, value in vars(_import_file(Path(file))).items() if isinstance(value, type)]
        raise InputError(f"{file} has no class {attribute!r}{nearest(attribute, classes)}")
    if not isinstance(found, type) or not issubclass(found, base):
        raise InputError(f"{name} is no {_spoken(kind)}; derive it from {base.__module__}.{base.__qualname__}")
    return found


def _spoken(kind: str) -> str:
    return kind.replace("_", " ")


def _load(target: str) -> type:
    module, _, attribute = target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def _import_file(path: Path) -> ModuleType:
    """Import a user's file under a name of its own, once; its folder can be imported from, too."""
    if not path.is_file():
        raise InputError(f"{path} is no file; give the path of a Python file, as in my_method.py:MyMethod")
    path = path.resolve()
    content = path.read_bytes()
    name = f"evenseg_user_{path.stem}_{zlib.crc32(str(path).encode() + content):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"{path}{_line(error, path)}: {_one_line(error)}") from error
    return module


def _line(error: BaseException, path: Path) -> str:
    """`` line 3``: the last line of the user's file that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {lines[-1]}" if lines else ""


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}"
