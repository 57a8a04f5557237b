"""A CLIP that others have trained, in the place of our own: https://github.com/mlfoundations/open_clip"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lgen_unclip.clip import Text
from lightning_gen.errors import UserError, nearest


class OpenCLIP:
    """Frozen encoders of open_clip. No nn.Module: their weights, hundreds of megabytes, must enter no checkpoint and no
    optimizer.

    Args:
        name: An architecture, as open_clip names it: ViT-B-32.
        weights: A file of its weights, or a tag such as laion2b_s34b_b79k, which is downloaded.

    Raises:
        UserError: open_clip is not installed, it knows no such architecture, or the weights are not there or others.
    """

    def __init__(self, name: str, weights: str):
        try:
            import open_clip
        except ImportError as reason:
            raise UserError("--model.openclip needs open_clip: pip install 'lgen-unclip[openclip]'") from reason
        known = open_clip.list_models()
        if name not in known:
            raise UserError(f"--model.openclip {name}: open_clip knows no such architecture{nearest(name, known)}")
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not weights:
            raise UserError(
                f"--model.openclip {name} needs --model.openclip_weights: a file, or one of {', '.join(tags) or 'none'}"
            )
        if weights not in tags and not Path(weights).expanduser().is_file():
            raise UserError(f"--model.openclip_weights {weights}: no such file, and no tag{nearest(weights, tags)}")
        given = weights if weights in tags else str(Path(weights).expanduser())
        try:
            self._network: Any = open_clip.create_model(name, pretrained=given)
        except Exception as reason:  # downloads and unpickling raise whatever they like
            first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
            raise UserError(f"--model.openclip_weights {weights} are no weights of {name}: {first}") from reason
        if not hasattr(self._network, "token_embedding"):
            raise UserError(f"--model.openclip {name}: its text encoder shows no words; architectures like ViT-B-32 do")
        self._network.requires_grad_(False).eval()
        self._tokenizer = open_clip.get_tokenizer(name)
        self.context: int = self._network.context_length
        self.dim: int = self._network.text_projection.shape[-1]
        self.text_width: int = self._network.token_embedding.weight.shape[1]
        self._side = self._network.visual.image_size[0]
        self._mean, self._deviation = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in (self._network.visual.image_mean, self._network.visual.image_std)
        )
        content = hashlib.sha256()
        for key, value in sorted(self._network.state_dict().items()):
            content.update(key.encode())
            content.update(value.contiguous().numpy().tobytes())
        self.digest = int.from_bytes(content.digest()[:7], "big")
        """Names the weights; fits into an int64."""

    @torch.no_grad()
    def image(self, images: Tensor) -> Tensor:
        """Images (B, 1 or 3, S, S) in [-1, 1] to (B, dim) of length 1."""
        self._network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            x = (images.float().expand(-1, 3, -1, -1) + 1) / 2
            x = F.interpolate(x, (self._side, self._side), mode="bicubic", antialias=True).clamp(0, 1)
            x = (x - self._mean.to(x)) / self._deviation.to(x)
            found: Tensor = self._network.encode_image(x, normalize=True)
        return found

    @torch.no_grad()
    def text(self, captions: Sequence[str], device: torch.device) -> Text:
        """Sentences, cut after `context` tokens."""
        self._network.to(device)
        tokens = self._tokenizer(list(captions), context_length=self.context).to(device)
        with torch.autocast(device.type, enabled=False):
            read = self._network.forward_intermediates(
                text=tokens, text_indices=1, normalize=True, normalize_intermediates=True
            )
        return Text(read["text_features"], read["text_intermediates"][-1], tokens == 0)
