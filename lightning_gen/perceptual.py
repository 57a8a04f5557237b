"""Perceptual distance: mean squared difference of a fixed network's feature maps, with gradients to the pictures.

`vgg19` is the papers' network, `tiny` the classifier that ships with the package. Distances of the two are not
comparable, nor are models trained on them: the name stands among the settings of a run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.metrics.tiny import TinyNet

Perceptual = Literal["vgg19", "tiny"]

VARIABLE = "LGEN_VGG19_WEIGHTS"
FILE = "vgg19-dcbb9e9d.pth"
FIRST_OF_A_SIZE = (1, 6, 11, 20, 29)
"""Where in torchvision's VGG19 the ReLU after the first convolution of each size stands."""
URL = f"https://download.pytorch.org/models/{FILE}"


class PerceptualLoss:
    """Distance of pictures in the eyes of a network. No nn.Module: it must enter no checkpoint and no optimizer.

    ``vgg19``: the maps of the fourth convolution before the fifth pooling, after its ReLU, divided by 12.75 (Ledig et
    al. 2017, section 2.2.1 and 3.2: phi_5,4). The weights are torchvision's vgg19-dcbb9e9d.pth: the file that
    LGEN_VGG19_WEIGHTS names, else the one in torch's hub folder, else downloaded into it (548 MB).
    ``tiny``: the last maps before the pooling, as they are.

    Raises:
        UserError: weights that are not there, or are something else.
    """

    def __init__(self, name: Perceptual):
        self.name = name
        self._network = _vgg19() if name == "vgg19" else _tiny()
        self._network.requires_grad_(False).eval()

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Distance of pictures (B, 1 or 3, H, W) in [-1, 1] to `target`, a scalar, in float32."""
        self._network.to(target.device)
        with torch.no_grad():
            wanted = self.features(target)
        return F.mse_loss(self.features(images), wanted)

    def features(self, images: Tensor) -> Tensor:
        """Maps (B, D, h, w) float32."""
        with torch.autocast(images.device.type, enabled=False):
            last: Tensor = self._network(self._prepared(images))
        return last if self.name == "tiny" else last / 12.75

    def distance_of_maps(self, images: Tensor, target: Tensor) -> Tensor:
        """Sum of the mean absolute differences of maps of all depths, a scalar, in float32.

        Of ``vgg19`` the first maps of each size after their ReLU (relu1_1, 2_1, 3_1, 4_1, 5_1), of ``tiny`` those of
        all its stages.
        """
        self._network.to(target.device)
        with torch.no_grad():
            wanted = self._maps(target)
        return torch.stack([F.l1_loss(a, b) for a, b in zip(self._maps(images), wanted, strict=True)]).sum()

    def _maps(self, images: Tensor) -> list[Tensor]:
        chosen = range(len(self._network)) if self.name == "tiny" else FIRST_OF_A_SIZE
        found, x = [], self._prepared(images)
        with torch.autocast(images.device.type, enabled=False):
            for depth, layer in enumerate(self._network[: max(chosen) + 1]):
                x = layer(x)
                if depth in chosen:
                    found.append(x)
        return found

    def _prepared(self, images: Tensor) -> Tensor:
        images = images.float().expand(-1, 3, -1, -1)
        if self.name == "tiny":  # its levels run from 0 to 255, then from about -2 to 2
            return images * (127.5 / 64)
        mean = images.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        deviation = images.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        return ((images + 1) / 2 - mean) / deviation


def _tiny() -> nn.Sequential:
    from lightning_gen.metrics import tiny

    with torch.device("meta"):  # draws no random numbers
        network = TinyNet()
    stored = load_file(Path(tiny.__file__).with_name("tiny.safetensors"))
    network.load_state_dict({name: value.float() for name, value in stored.items()}, assign=True)
    return network.stages


def _vgg19() -> nn.Sequential:
    from torchvision.models import vgg19

    path = _weights()
    with torch.device("meta"):
        layers = vgg19().features[:36]
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        ours = {key.removeprefix("features."): stored[key] for key in stored if key.startswith("features.")}
        layers.load_state_dict(ours, assign=True)
    except Exception as reason:  # a damaged zip raises half a dozen different types
        raise UserError(f"{path} is not torchvision's VGG19 ({FILE})") from reason
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return layers


def _weights() -> Path:
    if named := os.environ.get(VARIABLE):
        if not Path(named).expanduser().is_file():
            raise UserError(f"weights of vgg19: no file {named} ({VARIABLE})")
        return Path(named).expanduser()
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), hash_prefix="dcbb9e9d", progress=False)
        except (OSError, RuntimeError) as reason:  # a URLError is an OSError; a wrong digest is a RuntimeError
            raise UserError(
                f"the weights of vgg19 cannot be downloaded: put {FILE} ({URL}) at {path}, or name it with {VARIABLE}\n"
                "`--model.perceptual tiny` needs no download"
            ) from reason
    return path
