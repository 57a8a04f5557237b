"""What several metric tests share."""

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def inception_state() -> dict[str, torch.Tensor]:
    """Random weights for torch-fidelity's Inception, with batch norms that have seen a few pictures.

    Without those statistics all pictures get nearly the same features, and a comparison of scores says nothing.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with torch.random.fork_rng(devices=[]), torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        # Its constructor wants a file: it gets one that loads nothing.
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path="none")
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # a plain average
                module.train()
        network(torch.randint(0, 256, (10, 3, 8, 8)).to(torch.uint8))
        network.fc.weight.mul_(100)  # logits as decided as a trained network's
        return network.state_dict()
