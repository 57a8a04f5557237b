"""What several metric tests share."""

import pytest
import torch


@pytest.fixture(scope="session")
def inception_state() -> dict[str, torch.Tensor]:
    """Random weights for torch-fidelity's Inception, of a size that lets a picture through its 94 layers."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with torch.device("meta"):
        shapes = _without_loading(FeatureExtractorInceptionV3)
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, like in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("running_var") or ".bn.weight" in name:
            # Features of the size of trained ones: torch-fidelity's kernel distance sums in float32, and of small
            # features little is left but rounding.
            state[name] = torch.full(like.shape, 8.0 if name.startswith("Mixed_7c") and "bn.weight" in name else 1.0)
        elif name.endswith((".bias", "running_mean")):
            state[name] = torch.zeros(like.shape)
        else:
            fan_in = like[0].numel()
            state[name] = torch.randn(like.shape, generator=random) * (2 / fan_in) ** 0.5
    return state


def _without_loading(network: type) -> dict[str, torch.Tensor]:
    """The names and shapes of its weights: its constructor wants a file, so it gets one that loads nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(network, "load_state_dict", lambda *_: None)
        return network("inception-v3-compat", ["2048"], feature_extractor_weights_path="none").state_dict()
