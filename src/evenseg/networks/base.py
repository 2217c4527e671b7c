"""The interface of all networks: images of any size in, logits of that size, features and heads out."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from evenseg.errors import InputError
from evenseg.networks import weights as weight_files
from evenseg.networks.branch import Branch, Share, Shared, own_stages
from evenseg.networks.build import Parts, build_parts, resolve_architecture, resolve_encoder, unfit
from evenseg.networks.heads import FCNHead
from evenseg.networks.norm import freeze_batch_norm, replace_batch_norm, unnoted_statistics
from evenseg.networks.outline import encoder_layers
from evenseg.networks.probe import probe
from evenseg.networks.prototypes import PrototypeHead, PrototypeOptions, mlp_projection
from evenseg.types import NetworkOutput

Source = Literal["decoder", "high", "low"]
PERTURBED = "perturbed"  # under this name, logits of a second pass of the decoder are among the heads


class SegmentationNetwork(nn.Module):
    """A segmentation network: encoder, decoder, segmentation head and named extra heads.

    Images are normalised inside, padded at the right and bottom to the multiple the network needs, and
    everything that comes out is cut back to the image.

    Args:
        architecture: a name of ``architecture_names()``, in any spelling (``DeepLabV3+``).
        encoder: a name of ``encoder_names()``: smp's, or timm's with the prefix ``tu-``.
        num_classes: C.
        output_stride: of the encoder, for the architectures that dilate it: deeplabv2, deeplabv3, pspnet
            (8 in their papers), deeplabv3plus, pan (16). None: the paper's. No effect on the others.
        weights: None: random. ``imagenet`` or another tag: the encoder's weights from the hub. A path: a
            local file, see ``networks.weights``.
        auxiliary: add a head on the last but one encoder stage. It serves training only and is left out in
            eval mode.
        norm: "batch"; "frozen": batch norm that uses its statistics and never changes them, scale and shift
            are trained; "group": group norm in its place, for small batches.
        aspp_branches: of deeplabv2, the first so many of its four rates. No effect on the others.
        strong_statistics: running statistics of batch norm come from all passes (``shared``), or not from those of
            strong views (``separate``), which differ from what is predicted later. Idea: Yuan et al., "A Simple
            Baseline for Semi-supervised Semantic Segmentation with Strong Data Augmentation" (DBSN), ICCV 2021.
        frozen_encoder: the encoder is never trained: no gradient, norm layers that use their statistics and never
            change them.

    Raises:
        InputError: a name, combination or weights file that does not work.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        architecture: str = "deeplabv3plus",
        encoder: str = "resnet50",
        *,
        num_classes: int,
        output_stride: int | None = None,
        weights: str | None = None,
        auxiliary: bool = False,
        norm: Literal["batch", "frozen", "group"] = "batch",
        aspp_branches: int = 4,
        strong_statistics: Literal["shared", "separate"] = "shared",
        frozen_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = resolve_architecture(architecture)
        self.encoder_name = resolve_encoder(encoder)
        self.num_classes = num_classes
        self.output_stride = output_stride
        self.norm = norm
        self.aspp_branches = aspp_branches
        self.strong_statistics = strong_statistics
        self.frozen_encoder = frozen_encoder
        hub_tag = None if weights is None or weight_files.is_path(weights) else weights
        parts = build_parts(
            self.architecture,
            self.encoder_name,
            num_classes=num_classes,
            output_stride=output_stride,
            hub_tag=hub_tag,
            aspp_branches=aspp_branches,
        )
        self.encoder = parts.encoder.requires_grad_(not frozen_encoder)
        self.decoder = parts.decoder
        self.segmentation_head: nn.Module = parts.segmentation_head
        self.multiple = parts.multiple
        # image * scale + shift = (image - mean) / std; saved, since weights are worth little without them
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (parts.mean, parts.std))
        self.register_buffer("scale", 1 / std)
        self.register_buffer("shift", -mean / std)
        super().train(False)
        found = probe(self, self._parts_of, self.multiple, partial(unfit, self.architecture, self.encoder_name))
        for idle in found.idle:  # optimisers would decay them, and DDP wait for their gradient
            idle.requires_grad_(False)
        self.smallest, self._low, self._decoded, self._pooled = found.smallest, found.low, found.seen, found.pooled
        self.map_channels = found.maps[found.low :]
        self.channels = {
            "low": found.maps[found.low],
            "middle": found.maps[-2],
            "high": found.maps[-1],
            "decoder": found.decoder,
        }
        self.auxiliary_head = FCNHead(self.channels["middle"], num_classes) if auxiliary else None
        self.heads = nn.ModuleDict()
        self._head_options: dict[str, tuple[Source, bool]] = {}
        self.branches = nn.ModuleDict()
        if norm == "group":
            replace_batch_norm(self)
        self.pretrained = weights is not None
        if weights is None:
            self.weights_report = "random weights"
        elif hub_tag is not None:
            self.weights_report = f"{hub_tag} weights of the encoder from the hub"
        else:
            self.weights_report = weight_files.load(self, weights)
        self.train()

    def forward(
        self,
        image: Tensor,
        *,
        extras: bool = True,
        strong: bool = False,
        channel_factor: Tensor | None = None,
        second_factor: Tensor | None = None,
    ) -> NetworkOutput:
        """Logits of images, and what else the network has.

        Args:
            image: (B, 3, H, W), float in [0, 1], of any size.
            extras: False leaves out heads and branches.
            strong: they are strong views or mixtures, see ``strong_statistics``.
            channel_factor: (B, D) factors of the channels of the encoder's maps from stride 4 on (of a plain
                transformer: all), of which each takes as many as it has, the first; D is ``max(map_channels)``.
            second_factor: (B, ``decoded_channels``) float, by which the channels of the encoder's maps are multiplied
                for a second pass of the decoder, in one batch with the first. The logits it comes to are
                ``heads["perturbed"]``, at input size; all else is of the maps as they are.

        Returns:
            logits (B, C, H, W); features ``low`` (the encoder's map at stride 4; of a plain transformer its
            first), ``high`` (its last), ``decoder`` (what the segmentation head sees) and, of a network with
            prototypes, ``embedding`` (what is compared with them), each cut to the cells that cover the image;
            heads, at input size unless added with ``upsample=False``; coarse, the logits before they are enlarged,
            ``class`` and those of the branches. Under autocast all are of its dtype, but the logits of prototypes,
            which are float32.
        """
        if strong and self.strong_statistics == "separate":
            with unnoted_statistics(self):
                return self.forward(image, extras=extras, channel_factor=channel_factor, second_factor=second_factor)
        height, width = image.shape[-2:]
        if self.training:
            self.check_batch(image.shape[0])
        padded = self.padded_size(height, width)
        if padded != (height, width):
            # The edge is continued: on CamVid, zeros cost a small network up to 3.5 points of pixel accuracy, this
            # none; reflection did as well, but cannot be wider than the image.
            image = F.pad(image, (0, padded[1] - width, 0, padded[0] - height), mode="replicate")
        normalised = torch.addcmul(self.shift, image, self.scale)
        maps, decoded, embedding, logits = self._run(normalised, channel_factor, second_factor)
        perturbed = None
        if second_factor is not None:
            decoded, _ = decoded.chunk(2)
            embedding = None if embedding is None else embedding.chunk(2)[0]
            logits, perturbed = logits.chunk(2)

        def resize(prediction: Tensor) -> Tensor:
            if prediction.shape[-2:] != padded:
                prediction = F.interpolate(prediction, size=padded, mode="bilinear", align_corners=True)
            return prediction[..., :height, :width]

        def cut(feature: Tensor) -> Tensor:
            rows, columns = feature.shape[-2:]
            return feature[..., : -(-height * rows // padded[0]), : -(-width * columns // padded[1])]

        source = {"low": maps[self._low], "high": maps[-1], "decoder": decoded}
        if embedding is not None:
            source["embedding"] = embedding
        heads, coarse = {}, {"class": logits}
        if perturbed is not None:
            heads[PERTURBED] = resize(perturbed)
        if extras:
            if self.training and self.auxiliary_head is not None:
                heads["auxiliary"] = resize(self.auxiliary_head(maps[-2]))
            for name, head in self.heads.items():
                on, upsample = self._head_options[name]
                heads[name] = (resize if upsample else cut)(head(source[on]))
            for name, branch in self.branches.items():
                coarse[name] = branch(Shared(normalised, maps, decoded))
        return NetworkOutput(resize(logits), {name: cut(feature) for name, feature in source.items()}, heads, coarse)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The size that images of this size are padded to."""
        return (
            max(height + -height % self.multiple, self.smallest),
            max(width + -width % self.multiple, self.smallest),
        )

    def add_head(self, name: str, module: nn.Module, *, on: Source = "decoder", upsample: bool = True) -> None:
        """Add a head whose output appears under ``heads[name]``; its norm layers follow the network's.

        Args:
            name: a new name.
            module: (B, channels[on], h, w) to (B, D, h, w).
            on: the feature it sees; ``channels`` tells how wide each is.
            upsample: bring the output to input size; False leaves it at the feature's.
        """
        if name in self.heads or name in ("auxiliary", PERTURBED):
            raise ValueError(f"the network has a head {name!r} already")
        self.heads[name] = replace_batch_norm(module) if self.norm == "group" else module
        self._head_options[name] = (on, upsample)
        self.train(self.training)

    def add_branch(self, name: str, num_classes: int, *, share: Share = "low") -> None:
        """Add a branch whose logits (B, num_classes, h, w), at the decoder's size, appear under ``coarse[name]``.

        Args:
            name: a new name.
            num_classes: of its classifier.
            share: which stages it has in common with this network: ``low``: the encoder up to stride 4; ``none``;
                ``high``: all but the classifier.

        Raises:
            InputError: an encoder that cannot be divided.
        """
        if name in self.branches or name == "class":
            raise ValueError(f"the network has a branch {name!r} already")
        stages = own_stages(self.encoder, share, self._low, self.encoder_name)
        parts = self._build(num_classes)
        pairs = [(parts.segmentation_head, self.segmentation_head)]
        if isinstance(self.segmentation_head, PrototypeHead):  # which has nothing in common with a classifier
            pairs = [(parts.segmentation_head, parts.segmentation_head)]
        if share != "high":
            pairs.append((parts.decoder, self.decoder))
        for new, own in pairs:
            if self.norm == "group":
                replace_batch_norm(new)
            for ours, theirs in zip(new.parameters(), own.parameters(), strict=True):
                ours.requires_grad_(theirs.requires_grad)  # those that the logits do not depend on, see ``probe``
        decoder = None if share == "high" else parts.decoder
        self.branches[name] = Branch(stages, decoder, parts.segmentation_head, share, self._low)
        self.train(self.training)

    def use_prototypes(self, options: PrototypeOptions, class_frequency: Tensor | None = None) -> PrototypeHead:
        """Classify by the cosine with one prototype per class from now on, in place of the linear classifier.

        Args:
            options: of the head.
            class_frequency: (C,) labeled pixels; classes without one are never predicted. None: all may be.
        """
        if options.projection == "linear":
            projection = self._build(options.dimension).segmentation_head
        else:
            projection = mlp_projection(self.channels["decoder"], options.dimension)
        head = PrototypeHead(projection, self.num_classes, options, class_frequency)
        if self.norm == "group":
            replace_batch_norm(head)
        self.segmentation_head = head
        self.train(self.training)
        return head

    def check_batch(self, size: int) -> None:
        """Raises InputError if the network cannot be trained with ``size`` images at a time.

        Batch norm after global pooling has one value per channel and image, and no variance over one image.
        """
        if size > 1:
            return
        for name in self._pooled:
            module = self.get_submodule(name)
            if module.training and isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                raise InputError(
                    f"{self.architecture} needs at least two images at a time in training, since it pools them to "
                    "single values under batch norm: raise the batch size, lower train.micro_batches, or set "
                    "network.norm to group or frozen"
                )

    @property
    def decoded_channels(self) -> int:
        """How many channels the maps that the decoder sees have together."""
        return sum(self._decoded.values())

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters of the encoder, and of the stages of it that branches have for themselves."""
        return [p for encoder in self._encoders() for p in encoder.parameters() if p.requires_grad]

    def encoder_depths(self) -> dict[nn.Parameter, int]:
        """How many layers below the decoder each of ``encoder_parameters`` lies, from 1, by timm's grouping.

        Stages that a branch has for itself count as the encoder's last layer.

        Raises:
            InputError: an encoder whose layers timm does not group.
        """
        trained = {name: p for name, p in self.encoder.named_parameters() if p.requires_grad}
        layers = encoder_layers(trained, self.encoder_name)
        top = max(layers.values(), default=0) + 1
        depths = dict.fromkeys(self.encoder_parameters(), 1)
        return depths | {parameter: top - layers[name] for name, parameter in trained.items()}

    def head_parameters(self) -> list[nn.Parameter]:
        """All other trainable parameters: decoder and heads."""
        encoder = {id(parameter) for parameter in self.encoder_parameters()}
        return [
            parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in encoder
        ]

    def train(self, mode: bool = True) -> SegmentationNetwork:
        """As usual, but frozen batch norm and a frozen encoder stay in eval mode."""
        super().train(mode)
        if self.norm == "frozen":
            freeze_batch_norm(self)
        if self.frozen_encoder:
            for encoder in self._encoders():
                encoder.eval()
        return self

    def _build(self, num_classes: int) -> Parts:
        """The parts of another network of this kind, with random weights."""
        return build_parts(
            self.architecture,
            self.encoder_name,
            num_classes=num_classes,
            output_stride=self.output_stride,
            hub_tag=None,
            aspp_branches=self.aspp_branches,
        )

    def _encoders(self) -> list[nn.Module]:
        """The encoder, and the stages of it that branches have for themselves."""
        return [self.encoder, *(each.encoder for each in self.branches.values() if isinstance(each, Branch))]

    def _run(
        self, normalised: Tensor, channel_factor: Tensor | None = None, second_factor: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor, Tensor | None, Tensor]:
        """Encoder maps, decoder output, embedding if there is one, and logits at whatever size the decoder has.

        With ``second_factor``, all but the maps are of the maps as they are, and then of those multiplied by it.
        """
        encoded = self.encoder(normalised)
        maps = encoded[0] if isinstance(encoded, tuple) else encoded  # a transformer's come with its tokens
        if channel_factor is not None:
            maps = [*maps[: self._low], *(_scaled(each, channel_factor) for each in maps[self._low :])]
            encoded = (maps, *encoded[1:]) if isinstance(encoded, tuple) else maps
        if second_factor is not None:
            twice = self._twice(maps, second_factor)
            encoded = (
                (twice, [t if t is None else torch.cat([t, t]) for t in encoded[1]])
                if isinstance(encoded, tuple)
                else twice
            )
        decoded = self.decoder(encoded)
        if isinstance(self.segmentation_head, PrototypeHead):
            embedding = self.segmentation_head.project(decoded)
            return maps, decoded, embedding, self.segmentation_head.classify(embedding)
        return maps, decoded, None, self.segmentation_head(decoded)

    def _twice(self, maps: list[Tensor], factors: Tensor) -> list[Tensor]:
        """The maps that the decoder sees as they are and, behind these, multiplied by (B, ``decoded_channels``)."""
        doubled = list(maps)
        parts = torch.split(factors, list(self._decoded.values()), dim=1)
        for position, factor in zip(self._decoded, parts, strict=True):
            one = maps[position]
            doubled[position] = torch.cat([one, one * factor[:, :, None, None].to(one.dtype)])
        return doubled

    def _parts_of(self, normalised: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Encoder maps, decoder output and logits."""
        maps, decoded, _, logits = self._run(normalised)
        return maps, decoded, logits


def _scaled(feature: Tensor, channel_factor: Tensor) -> Tensor:
    """(B, D', h, w) with each channel multiplied by its factor of (B, D)."""
    return feature * channel_factor[:, : feature.shape[1], None, None].to(feature.dtype)
