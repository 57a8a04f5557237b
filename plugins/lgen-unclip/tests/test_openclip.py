"""The encoders of open_clip in the place of our own: weights of no use, but of the right shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lgen_unclip.openclip import OpenCLIP
from lgen_unclip.unclip import UnCLIP

from lightning_gen.errors import UserError
from lightning_gen.testing import check_model

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'lgen-unclip[openclip]'")

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("openclip")
    (folder / "small-for-tests.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)
    for seed, name in ((0, "weights.pt"), (1, "others.pt")):
        torch.manual_seed(seed)
        torch.save(open_clip.create_model("small-for-tests", load_weights=False).state_dict(), folder / name)
    return str(folder / "weights.pt")


def small(weights: str) -> dict[str, object]:
    return UnCLIP.checked | {"openclip": "small-for-tests", "openclip_weights": weights}


def test_embeddings_are_those_of_open_clip(weights: str) -> None:
    ours, theirs = OpenCLIP("small-for-tests", weights), open_clip.create_model("small-for-tests", pretrained=weights)
    theirs.eval()
    assert (ours.dim, ours.context, ours.text_width) == (16, 12, 8)
    captions = ["a red circle", "one that is much, much longer than twelve tokens, which is all that there is room for"]
    tokens = open_clip.get_tokenizer("small-for-tests")(captions, context_length=12)
    text = ours.text(captions, torch.device("cpu"))
    with torch.no_grad():
        assert text.embedding.allclose(theirs.encode_text(tokens, normalize=True), atol=1e-6)
        assert text.words.shape == (2, 12, 8)
        assert text.missing.sum(1).tolist() == [7, 0]
        levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32))).float()
        prepared = open_clip.transform.image_transform_v2(
            open_clip.transform.PreprocessCfg(**theirs.visual.preprocess_cfg), is_train=False
        )
        normalise = prepared.transforms[-1]
        wanted = theirs.encode_image(normalise(levels / 255), normalize=True)
        assert ours.image(levels / 127.5 - 1).allclose(wanted, atol=1e-5)
        grey = ours.image(torch.zeros(1, 1, 16, 16))
    assert grey.norm() == pytest.approx(1)
    assert F.cosine_similarity(grey, ours.image(torch.zeros(1, 3, 64, 64))).item() == pytest.approx(1, abs=1e-5)


def test_the_model_keeps_the_contract_and_its_checkpoints_hold_no_open_clip(weights: str) -> None:
    class Given(UnCLIP):
        __doc__ = UnCLIP.__doc__
        checked = small(weights)

    check_model(Given)
    names = Given(**small(weights)).state_dict()
    assert not any(name.startswith("clip.") or "token_embedding" in name for name in names)


def test_other_weights_than_it_learnt_from_are_refused(weights: str) -> None:
    learnt = UnCLIP(**small(weights)).state_dict()
    UnCLIP(**small(weights)).load_state_dict(learnt)
    with pytest.raises(UserError, match="are other weights of small-for-tests"):
        UnCLIP(**small(str(Path(weights).with_name("others.pt")))).load_state_dict(learnt)


def test_what_is_not_there_is_named(weights: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such architecture; did you mean 'ViT-B-32'"):
        OpenCLIP("ViT-B-23", weights)
    with pytest.raises(UserError, match=r"needs --model\.openclip_weights: a file, or one of openai"):
        OpenCLIP("ViT-B-32", "")
    with pytest.raises(UserError, match=r"nowhere\.pt: no such file, and no tag"):
        OpenCLIP("ViT-B-32", "nowhere.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UserError, match=r"text.pt are no weights of small-for-tests"):
        OpenCLIP("small-for-tests", str(tmp_path / "text.pt"))
