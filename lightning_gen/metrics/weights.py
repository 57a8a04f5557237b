"""Where the weights of Inception v3 are: a flag, an environment variable, torch's folder, or a download."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from filelock import FileLock

from lightning_gen.errors import UserError

VARIABLE = "LGEN_INCEPTION_WEIGHTS"
FLAG = "--metrics.weights FILE"
FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def find_inception(weights: str | None = None) -> Path:
    """torch-fidelity's weights file: `weights` if given, else $LGEN_INCEPTION_WEIGHTS, else in torch's hub folder
    ($TORCH_HOME/hub/checkpoints), else downloaded into it (96 MB) and checked.

    A file that was named and is not there is an error, never a reason to look elsewhere: the score would be another.

    Raises:
        UserError: there is none; the message says which file to put where, and how to name another place.
    """
    path = place(weights)
    if not path.is_file():
        _download(path)
    return path


def place(weights: str | None = None) -> Path:
    """Where the file is or would be downloaded to.

    Raises:
        UserError: a file was named that is not there.
    """
    for named, origin in ((weights, FLAG.split()[0]), (os.environ.get(VARIABLE), VARIABLE)):
        if named:
            path = Path(named).expanduser()
            if not path.is_file():
                raise UserError(f"weights of Inception v3: no file {named} ({origin})")
            return path
    return Path(torch.hub.get_dir()) / "checkpoints" / FILE


def _download(path: Path) -> None:
    """Fetch the file once for all processes of this machine: whole and with the right digest, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file():
                print(f"downloading {URL}", file=sys.stderr, flush=True)
                torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as reason:  # a URLError is an OSError; a wrong digest is a RuntimeError
        raise UserError(
            f"weights of Inception v3: {FILE} is not in {path.parent} and cannot be downloaded ({reason})\n"
            f"put it there (from {URL}), or name it with {FLAG} or {VARIABLE}; the extractor tiny needs no download"
        ) from reason
