"""The published networks, with torch-fidelity's sizes, scalings and layers: equal weights give its features."""

from __future__ import annotations

import io
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_gen.errors import UserError
from lightning_gen.metrics import weights as files
from lightning_gen.metrics.extractors import Extractor, Features
from lightning_gen.metrics.resizes import RESIZES

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Mean and deviation of the channels, as torchvision's networks and DINOv2 take them, times 255."""


class PublishedExtractor(Extractor):
    """Resizes, scales, and runs a network whose weights are a file that its authors published.

    A subclass fills the attributes, `build` and `run`.

    Args:
        weights: the file. Left out, it is looked for where `lightning_gen.metrics.weights.find` says, or downloaded.
        resize: one of `resizes`, the first when left out.

    Raises:
        UserError: no weights, a file that is not this network's, or an unknown resize.
    """

    size: ClassVar[int]
    """Side of the pictures that the network takes."""
    scaling: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    """What is subtracted from 0..255, and what that is divided by, for each channel."""
    resizes: ClassVar[tuple[str, ...]] = ("tf1-bilinear", "clean")
    logit_dim: int | None = None
    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str | None = None, resize: str | None = None):
        super().__init__(resize)
        path = files.find(self.name, weights)
        try:
            self.net = self.build(files.read(self.name, path))
        except Exception as reason:  # pickle, zip and shape errors have no common class
            raise UserError(
                f"weights of extractor {self.name}: {path} is not {files.PUBLISHED[self.name].network} "
                f"({type(reason).__name__}: {str(reason).splitlines()[0] if str(reason) else 'no reason given'})"
            ) from reason
        self.weights_digest = files.file_digest(path)
        for part, values in zip(("mean", "deviation"), self.scaling, strict=True):
            self.register_buffer(part, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)  # half as fast again on a CPU

    @classmethod
    def at_hand(cls) -> bool:
        """Whether the file lies where it is looked for."""
        return files.place(cls.name).is_file()

    def build(self, state: dict[str, Tensor]) -> nn.Module:
        """The network, with these weights (all of them and no others) and without drawing random numbers."""
        raise NotImplementedError

    def run(self, x: Tensor) -> Features:
        """From scaled pictures (N, 3, size, size) to what the network says."""
        return Features(self.net(x), None)

    def extract(self, images: Tensor) -> Features:
        """Resized, scaled, run."""
        return self.run((RESIZES[self.resize](images, self.size) - self.mean) / self.deviation)


class InceptionV3Compat(PublishedExtractor):
    """The Inception v3 of the FID papers, as torch-fidelity ports it: pooled features and logits without bias.

    Szegedy et al. 2015 (arXiv:1512.00567). The papers resize as TensorFlow 1 did (`tf1-bilinear`); `clean` is for
    scores beside clean-fid's, `torchmetrics` for those beside its FrechetInceptionDistance.

    Args:
        weights: torch-fidelity's file. Left out, it is looked for where `lightning_gen.metrics.weights.find` says.
        resize: one of `resizes`, the first when left out.
    """

    name = "inception-v3-compat"
    feature_dim = 2048
    logit_dim = 1008
    resizes = ("tf1-bilinear", "clean", "torchmetrics")
    size = 299
    scaling = (128.0,) * 3, (128.0,) * 3

    def build(self, state: dict[str, Tensor]) -> nn.Module:
        """torch-fidelity's constructor wants a file, and unpickles whatever is in it: it gets plain tensors.

        Batch norms whose statistics are fixed are part of the convolution before them: one pass over memory less.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import (  # two seconds to import
            BasicConv2d,
            FeatureExtractorInceptionV3,
        )

        plain = io.BytesIO()
        torch.save(state, plain)
        plain.seek(0)
        with torch.random.fork_rng(devices=[]):  # its layers draw random weights before the real ones come
            net = FeatureExtractorInceptionV3(self.name, ["2048"], feature_extractor_weights_path=plain)
        for unit in net.eval().modules():
            if isinstance(unit, BasicConv2d):
                unit.conv, unit.bn = fuse_conv_bn_eval(unit.conv, unit.bn), nn.Identity()
        return net

    def run(self, x: Tensor) -> Features:
        """The layers, which are registered in the order they run; their own `forward` takes no resized pictures."""
        *layers, head = self.net.children()
        for layer in layers:
            x = layer(x)
        features = x.flatten(1)
        return Features(features, features.mm(head.get_parameter("weight").T))


class CLIPViTB32(PublishedExtractor):
    """The picture half of OpenAI's CLIP ViT-B/32: Radford et al. 2021 (arXiv:2103.00020).

    For scores on pictures that are not ImageNet's kind, after Kynkäänniemi et al. 2022 (arXiv:2203.06026).

    Args:
        weights: OpenAI's file, or a saved state_dict of the whole model or its `visual.` part. Left out, it is looked
            for where `lightning_gen.metrics.weights.find` says.
        resize: one of `resizes`, the first when left out.
    """

    name = "clip-vit-b-32"
    feature_dim = 512
    size = 224
    scaling = (122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305)

    def build(self, state: dict[str, Tensor]) -> nn.Module:
        """The parameters of the text half are left out."""
        from torch_fidelity.feature_extractor_clip import CLIPVisual

        with torch.device("meta"):  # draws no random numbers
            net = CLIPVisual(512, self.size, vision_layers=12, vision_width=768, vision_patch_size=32)
        net.load_state_dict({name: v for name, v in state.items() if name.startswith("visual.")}, assign=True)
        return net.visual


class DINOv2ViTB14(PublishedExtractor):
    """Meta's DINOv2 ViT-B/14: features that follow human judgement better, Stein et al. 2023 (arXiv:2306.04675).

    The network is ours, so no downloaded code runs. That paper's FD is another number: it takes ViT-L/14.

    Args:
        weights: Meta's file. Left out, it is looked for where `lightning_gen.metrics.weights.find` says.
        resize: one of `resizes`, the first when left out.
    """

    name = "dinov2-vit-b-14"
    feature_dim = 768
    size = 224
    scaling = IMAGENET

    def build(self, state: dict[str, Tensor]) -> nn.Module:
        """Ours, under the names of the file."""
        from lightning_gen.metrics.dinov2 import DINOv2

        with torch.device("meta"):
            net = DINOv2()
        net.load_state_dict(state, assign=True)
        return net


class VGG16(PublishedExtractor):
    """VGG16's second hidden layer after its ReLU: Simonyan and Zisserman 2014 (arXiv:1409.1556).

    What precision and recall were defined on: Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    Args:
        weights: torchvision's file. Left out, it is looked for where `lightning_gen.metrics.weights.find` says.
        resize: one of `resizes`, the first when left out.
    """

    name = "vgg16"
    feature_dim = 4096
    size = 224
    scaling = IMAGENET

    def build(self, state: dict[str, Tensor]) -> nn.Module:
        """torchvision's, which ends in the hidden layer."""
        from torchvision.models import vgg16

        with torch.device("meta"):
            net = vgg16()
        net.load_state_dict(state, assign=True)
        del net.classifier[5:]
        return net
