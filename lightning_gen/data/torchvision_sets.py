"""CIFAR-10, MNIST and Fashion-MNIST, fetched and read by torchvision, held in memory.

torchvision is imported when a set is made, not with this module.
"""

from __future__ import annotations

import contextlib
import pickle
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor

from lightning_gen.data.cache import cache_folder, digest_of
from lightning_gen.data.folder import mirrored, refuse_small
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError

CHUNK = 1024
"""Images that are resized at a time."""


class _Downloaded(Source):
    """What the sets share. A subclass says where its files are and how torchvision calls it."""

    title: str
    files: ClassVar[str]
    """The files that torchvision looks for, below `root`, as a user would have to put them."""

    def __init__(self, root: str, resolution: int, split: str, flip: bool, download: bool):
        refuse_small(resolution)
        if split not in ("train", "test"):
            raise UserError(f"--data.split {split}: {self.title} has train and test")
        folder = Path(root).expanduser() if root else cache_folder() / "torchvision"
        if folder.is_file():
            raise UserError(
                f"--data.root {root} is a file, and {self.title} is read from a folder\n"
                f"archives of images are read by --data folder --data.root {root}"
            )
        found = self._fetched(folder, split == "train", download)
        self._images = _resized(self._pixels(found, resolution), resolution)
        self._labels = torch.as_tensor(found.targets, dtype=torch.int64)
        self._digest: str | None = None
        self._flip = flip
        self.image_shape = (self._images.shape[1], resolution, resolution)
        self.class_names = list(found.classes)
        self.split = split

    @staticmethod
    @abstractmethod
    def _dataset() -> Any:
        """The class of torchvision."""

    @staticmethod
    @abstractmethod
    def _pixels(found: Any, resolution: int) -> Tensor:
        """The set as uint8 (N, C, H, W), before any resize."""

    def _fetched(self, folder: Path, train: bool, download: bool) -> Any:
        dataset = self._dataset()
        try:
            return dataset(str(folder), train=train)
        except (OSError, RuntimeError, ValueError, EOFError, AssertionError, pickle.UnpicklingError) as reason:
            if "not found" not in str(reason):  # so torchvision begins what it says of missing files
                raise UserError(
                    f"{self.title}: the files in {folder} are damaged ({_line(reason)}): remove them"
                ) from reason
        put = f"put {self.files} into {folder}, or name the folder that holds it with --data.root"
        if not download:
            raise UserError(f"{self.title} is not, or not whole, in {folder}, and --data.download is false\n{put}")
        # torchvision makes these before it has anything to put into them
        made = [
            path for path in (folder / dataset.__name__ / "raw", folder / dataset.__name__, folder) if not path.exists()
        ]
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            with FileLock(cache_folder() / f"{dataset.__name__}.lock"):
                return dataset(str(folder), train=train, download=True)
        except (OSError, RuntimeError, EOFError) as reason:  # a URLError is an OSError; a wrong checksum a RuntimeError
            for path in made:
                with contextlib.suppress(OSError):  # not empty, or not made
                    path.rmdir()
            raise UserError(f"{self.title} cannot be downloaded ({_line(reason)})\n{put}") from reason

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> Batch:
        """Rows in the order of the original files."""
        rows = torch.from_numpy(np.asarray(indices))
        return {"image": self._images[rows], "label": self._labels[rows]}

    def digest(self) -> str:
        """Of shape, labels and pixels."""
        if self._digest is None:
            self._digest = digest_of(self._images.shape, self._labels.numpy(), [self._images.numpy().data])
        return self._digest

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """With `flip`, the images whose chance is under a half are mirrored."""
        return {**batch, "image": mirrored(batch["image"], chance)} if self._flip else batch

    def class_counts(self) -> Tensor:
        """Counted from the labels."""
        return torch.bincount(self._labels, minlength=self.num_classes)


class CIFAR10(_Downloaded):
    """CIFAR-10: 50,000 training and 10,000 test photographs of 10 kinds, 32x32, in colour.

    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html

    Args:
        root: Folder that holds, or gets, `cifar-10-batches-py`; a folder of the cache if left out.
        resolution: Width and height; other than 32, images are resized (bicubic, antialiased).
        split: train or test.
        flip: Mirror half of the images, each time anew, when training.
        download: Fetch the files if they are not there.

    Raises:
        UserError: the files are not there and cannot be fetched, or are damaged.
    """

    photographs = True
    title = "CIFAR-10"
    files = "cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz), unpacked,"

    def __init__(
        self, root: str = "", resolution: int = 32, split: str = "train", flip: bool = False, download: bool = True
    ):
        super().__init__(root, resolution, split, flip, download)

    @staticmethod
    def _dataset() -> Any:
        from torchvision import datasets

        return datasets.CIFAR10

    @staticmethod
    def _pixels(found: Any, resolution: int) -> Tensor:
        return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()


class MNIST(_Downloaded):
    """MNIST: 60,000 training and 10,000 test handwritten digits, grey.

    LeCun et al., Gradient-based learning applied to document recognition, 1998, http://yann.lecun.com/exdb/mnist/

    Args:
        root: Folder that holds, or gets, `MNIST/raw`; a folder of the cache if left out.
        resolution: Width and height. 28 is the original; 32 pads it by 2 black pixels on each side; any other size is
            resized from the padded image (bicubic, antialiased).
        split: train or test.
        flip: Mirror half of the images, each time anew, when training: seldom wise for digits.
        download: Fetch the files if they are not there.

    Raises:
        UserError: the files are not there and cannot be fetched, or are damaged.
    """

    title = "MNIST"
    files = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"

    def __init__(
        self, root: str = "", resolution: int = 32, split: str = "train", flip: bool = False, download: bool = True
    ):
        super().__init__(root, resolution, split, flip, download)

    @staticmethod
    def _dataset() -> Any:
        from torchvision import datasets

        return datasets.MNIST

    @staticmethod
    def _pixels(found: Any, resolution: int) -> Tensor:
        return found.data[:, None] if resolution == 28 else F.pad(found.data[:, None], (2, 2, 2, 2))


class FashionMNIST(MNIST):
    """Fashion-MNIST: 60,000 training and 10,000 test pictures of 10 kinds of clothing, grey.

    Xiao et al., https://arxiv.org/abs/1708.07747, https://github.com/zalandoresearch/fashion-mnist

    Args:
        root: Folder that holds, or gets, `FashionMNIST/raw`; a folder of the cache if left out.
        resolution: Width and height. 28 is the original; 32 pads it by 2 black pixels on each side; any other size is
            resized from the padded image (bicubic, antialiased).
        split: train or test.
        flip: Mirror half of the images, each time anew, when training.
        download: Fetch the files if they are not there.

    Raises:
        UserError: the files are not there and cannot be fetched, or are damaged.
    """

    title = "Fashion-MNIST"
    files = "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"

    @staticmethod
    def _dataset() -> Any:
        from torchvision import datasets

        return datasets.FashionMNIST


def _resized(images: Tensor, resolution: int) -> Tensor:
    """uint8 (N, C, H, W) at another resolution, rounded to the nearest level."""
    if images.shape[-1] == resolution:
        return images
    out = torch.empty(*images.shape[:2], resolution, resolution, dtype=torch.uint8)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].float()
        part = F.interpolate(part, (resolution, resolution), mode="bicubic", antialias=True, align_corners=False)
        out[start : start + CHUNK] = part.round_().clamp_(0, 255).to(torch.uint8)
    return out


def _line(reason: BaseException) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
