"""Where the weights of published networks are (a flag, an environment variable, torch's folder, or a download), and
how they are read: as tensors, without running what else a file may hold."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import Tensor

from lightning_gen.errors import UserError

FLAG = "--metrics.weights FILE"


class Published(NamedTuple):
    """A weights file as its authors published it."""

    network: str
    """What the file is said not to be when it is something else."""
    variable: str
    """The environment variable that names another place."""
    file: str
    """Its name in torch's folder; where a library keeps it there too, that library's name for it."""
    sha256: str
    """All of it, or the first digits that its authors gave."""
    megabytes: int
    url: str


CLIP = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"

PUBLISHED = {
    "inception-v3-compat": Published(
        "torch-fidelity's Inception v3",
        "LGEN_INCEPTION_WEIGHTS",
        "weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        96,
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
    "clip-vit-b-32": Published(
        "OpenAI's CLIP ViT-B/32",
        "LGEN_CLIP_WEIGHTS",
        f"clip-vit-b-32-{CLIP}.pt",
        CLIP,
        354,
        f"https://openaipublic.azureedge.net/clip/models/{CLIP}/ViT-B-32.pt",
    ),
    "dinov2-vit-b-14": Published(
        "Meta's DINOv2 ViT-B/14",
        "LGEN_DINOV2_WEIGHTS",
        "dinov2_vitb14_pretrain.pth",
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        346,
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
    ),
    "vgg16": Published(
        "torchvision's VGG16",
        "LGEN_VGG16_WEIGHTS",
        "vgg16-397923af.pth",
        "397923af",
        553,
        "https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
}
"""By the name of the extractor."""


def find(extractor: str, weights: str | None = None) -> Path:
    """The weights file of a published network: `weights` if given, else what its environment variable names, else in
    torch's hub folder ($TORCH_HOME/hub/checkpoints), else downloaded into it and checked.

    A file that was named and is not there is an error, never a reason to look elsewhere: the score would be another.

    Raises:
        UserError: there is none; the message says which file to put where, and how to name another place.
    """
    path = place(extractor, weights)
    if not path.is_file():
        _download(extractor, path)
    return path


def place(extractor: str, weights: str | None = None) -> Path:
    """Where the file is or would be downloaded to.

    Raises:
        UserError: a file was named that is not there.
    """
    variable = PUBLISHED[extractor].variable
    for named, origin in ((weights, FLAG.split()[0]), (os.environ.get(variable), variable)):
        if named:
            path = Path(named).expanduser()
            if not path.is_file():
                raise UserError(f"weights of extractor {extractor}: no file {named} ({origin})")
            return path
    return Path(torch.hub.get_dir()) / "checkpoints" / PUBLISHED[extractor].file


def read(extractor: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a saved state_dict, floats as float32.

    OpenAI publishes CLIP as a TorchScript archive, which is a program; one is opened (with `torch.jit.load`, as
    torch-fidelity does) if it is the published file to the byte, and refused otherwise. Where torch no longer opens
    such files, a state_dict that was saved elsewhere serves.

    Raises:
        Exception: of many kinds, when the file is something else.
    """
    if _is_program(path):
        if file_digest(path, 64) != PUBLISHED[extractor].sha256:
            raise ValueError("a TorchScript archive, which could run anything; save its state_dict instead")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit.load` is")  # deprecated; the file is as it is
            state = torch.jit.load(path, map_location="cpu").state_dict()
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as reason:  # torch's own words would advise to load the file as code
            raise ValueError("no file of tensors alone") from reason
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def file_digest(path: Path, digits: int = 12) -> str:
    """First hex digits of a file's sha256, of 64."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:digits]


def _is_program(path: Path) -> bool:
    """Whether a file is a TorchScript archive: unlike a state_dict's, its zip holds constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())


def _download(extractor: str, path: Path) -> None:
    """Fetch the file once for all processes of this machine: whole and with the right digest, or not at all."""
    about = PUBLISHED[extractor]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file():
                print(f"downloading {about.url} ({about.megabytes} MB)", file=sys.stderr, flush=True)
                torch.hub.download_url_to_file(
                    about.url, str(path), hash_prefix=about.sha256, progress=sys.stderr.isatty()
                )
    except (OSError, RuntimeError) as reason:  # a URLError is an OSError; a wrong digest is a RuntimeError
        raise UserError(
            f"weights of extractor {extractor}: {about.file} is not in {path.parent} and cannot be downloaded "
            f"({reason})\nput it there (from {about.url}), or name it with {FLAG} or {about.variable}; "
            "the extractor tiny needs no download"
        ) from reason
