"""What the scores cost: FID, IS, KID and PRDC of the same images by us, torch-fidelity and torchmetrics, interleaved.

    python benchmarks/speed/metrics.py [--extractor tiny|inception] [--n 2000] [--rounds 5] [--json FILE]
    python benchmarks/speed/metrics.py --clock cpu --threads 1     # on a machine that others use too
    python benchmarks/speed/metrics.py --memory [--n 50000]        # peak memory of the scores of 2,048 features

Four sides, each given the same `n` generated and `n` real images, in memory, with the same weights and batch size:

- passes: the extractor alone sees every image once. Nothing can be faster.
- ours: the passes, then the four pure functions.
- torch-fidelity: `calculate_metrics` with isc, fid, kid and prc, its cache off and its loader in this process. It has
  no density and coverage. With `tiny` it runs our network; Inception is its own, built anew by each call.
- torchmetrics: FID, IS and KID with our network as their `feature`. It has no PRDC, so `ours without PRDC` is what it
  is to be compared with. Its three metrics each run the network themselves.

Before anything is timed, the numbers that two sides share must agree. Every round runs all sides, in an order that
moves on by one from round to round, so that a machine that slows down slows down all.

Inception uses the published weights where they lie in their place, else random ones in a temporary file.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
import torch_fidelity
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from lightning_gen.metrics import frechet_distance, inception_score, kernel_distance, prdc
from lightning_gen.metrics.extractors import Extractor, Features, Tiny
from lightning_gen.metrics.fidelity_extractors import InceptionV3Compat
from lightning_gen.metrics.weights import place

BATCH = 128

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

Values = dict[str, float]


def pictures(n: int, seed: int, contrast: float) -> Tensor:
    """Coloured blobs, (n, 3, 32, 32) uint8: like pictures, neighbours are alike."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 4, 4, generator=random) * (20 + contrast * torch.rand(n, 1, 1, 1, generator=random))
    return (F.interpolate(coarse, (32, 32), mode="bilinear") + 128).clamp(0, 255).to(torch.uint8)


def random_inception(path: Path) -> None:
    """Save random weights of torch-fidelity's Inception, its batch norms fitted to a few pictures."""
    with (
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
        # its constructor wants a file: it gets one that loads nothing
        patch.object(torch, "load", lambda *_, **__: {}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None),
    ):
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path="none")
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # a plain average
                module.train()
        network(pictures(10, 2, 60))
        network.fc.weight.mul_(100)  # logits as decided as a trained network's
    torch.save(network.state_dict(), path)


class Images(Dataset[Tensor]):
    """What torch-fidelity takes."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


class Output(nn.Module):
    """One of the extractor's two outputs, as torchmetrics wants it."""

    def __init__(self, extractor: Extractor, which: str):
        super().__init__()
        self.extractor = extractor
        self.which = which
        self.num_features = extractor.feature_dim

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.extractor(images), self.which)


def register(extractor: Extractor) -> str:
    """Make an extractor known to torch-fidelity; the name under which it is."""

    class Thin(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_: Any):
            super().__init__(name, features_list)
            self.network = extractor

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return Features._fields

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = self.network(images)._asdict()
            return tuple(found[name] for name in self.features_list)

    name = f"lightning-gen-{extractor.name}"
    torch_fidelity.register_feature_extractor(name, Thin)
    return name


class Contest:
    """The sides, on the same images."""

    def __init__(self, extractor: Extractor, weights: str | None, n: int, device: torch.device):
        self.extractor = extractor.to(device)
        self.device = device
        self.fake, self.real = pictures(n, 0, 60), pictures(n, 1, 50)
        self.subset_size = min(1000, n)
        self.fidelity: dict[str, Any] = (
            {"feature_extractor": "inception-v3-compat", "feature_extractor_weights_path": weights}
            if weights
            else {"feature_extractor": register(extractor)}
        )
        if weights:
            self.fidelity["feature_layer_prc"] = "2048"
        self.sides: dict[str, Callable[[], Values]] = {
            "passes": self.passes,
            "ours": self.ours,
            "ours without PRDC": self.ours_without_prdc,
            "torch-fidelity": self.torch_fidelity,
            "torchmetrics (no PRDC)": self.torchmetrics,
        }

    def batches(self, images: Tensor) -> Iterator[Tensor]:
        for batch in images.split(BATCH):
            yield batch.to(self.device)

    def see(self, images: Tensor) -> Features:
        found = [self.extractor(batch) for batch in self.batches(images)]
        logits = torch.cat([part.logits for part in found if part.logits is not None])
        return Features(torch.cat([part.features for part in found]), logits)

    def passes(self) -> Values:
        for images in (self.fake, self.real):
            for batch in self.batches(images):
                self.extractor(batch)
        return {}

    def ours(self, with_prdc: bool = True) -> Values:
        fake, real = self.see(self.fake), self.see(self.real)
        assert fake.logits is not None
        score = inception_score(fake.logits)
        distance = kernel_distance(fake.features, real.features, 100, self.subset_size)
        return {
            "fid": frechet_distance(fake.features, real.features),
            "is": score["mean"],
            "kid": distance["mean"],
            **(prdc(real.features, fake.features) if with_prdc else {}),
        }

    def ours_without_prdc(self) -> Values:
        return self.ours(with_prdc=False)

    def torch_fidelity(self) -> Values:
        found = torch_fidelity.calculate_metrics(
            input1=Images(self.fake),
            input2=Images(self.real),
            isc=True,
            fid=True,
            kid=True,
            prc=True,
            **self.fidelity,
            kid_subset_size=self.subset_size,
            batch_size=BATCH,
            cuda=self.device.type == "cuda",
            cache=False,
            save_cpu_ram=True,  # its loader would start processes to read what is in memory
            verbose=False,
        )
        return {
            "fid": found["frechet_inception_distance"],
            "is": found["inception_score_mean"],
            "kid": found["kernel_inception_distance_mean"],
            "precision": found["precision"],
            "recall": found["recall"],
        }

    def torchmetrics(self) -> Values:
        features, logits = Output(self.extractor, "features"), Output(self.extractor, "logits")
        fid = FrechetInceptionDistance(feature=features).to(self.device)
        kid = KernelInceptionDistance(feature=features, subset_size=self.subset_size).to(self.device)
        score = InceptionScore(feature=logits).to(self.device)
        for images, real in ((self.fake, False), (self.real, True)):
            for batch in self.batches(images):
                fid.update(batch, real=real)
                kid.update(batch, real=real)
                if not real:
                    score.update(batch)
        score.compute(), kid.compute()  # their subsets are drawn otherwise: no number to compare
        return {"fid": float(fid.compute())}

    def agree(self) -> None:
        """A comparison of different scores would mean nothing."""
        ours = self.ours()
        for name in ("torch-fidelity", "torchmetrics (no PRDC)"):
            for score, value in self.sides[name]().items():
                # float32 here and there; a KID is a small difference of large sums
                allowed = 1e-4 * max(abs(value), 0.01 if score != "fid" else 1.0) * (10 if score == "kid" else 1)
                if abs(value - ours[score]) > allowed + (1e-3 * abs(value) if name != "torch-fidelity" else 0):
                    raise SystemExit(f"{score} is {value} by {name} and {ours[score]} by us: not the same score")


@dataclass(frozen=True)
class Result:
    """Seconds of one side, and how they stand to the extractor's own passes."""

    side: str
    seconds: float
    """Median over the rounds."""
    to_passes: float
    """Median of the rounds' own ratios."""
    to_passes_low: float
    """First quartile."""
    to_passes_high: float
    """Third quartile."""
    to_ours: float
    """Median of the ratios to `ours`, or to `ours without PRDC` for what has none."""
    to_ours_low: float
    to_ours_high: float


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, first and third quartile."""
    low, high = np.quantile(values, [0.25, 0.75])
    return statistics.median(values), float(low), float(high)


def measure(contest: Contest, rounds: int, clock: Callable[[], float]) -> list[Result]:
    """Time every side once a round, in a moving order."""
    names = list(contest.sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()  # nobody pays for another's rubbish
            start = clock()
            contest.sides[name]()
            if contest.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
        if sys.stderr.isatty():
            print(f"\rround {turn + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    results = []
    for name in names:
        base = seconds["ours without PRDC" if "PRDC" in name else "ours"]
        to_passes = spread([a / b for a, b in zip(seconds[name], seconds["passes"], strict=True)])
        to_ours = spread([a / b for a, b in zip(seconds[name], base, strict=True)])
        results.append(Result(name, statistics.median(seconds[name]), *to_passes, *to_ours))
    return results


def table(results: list[Result]) -> str:
    """Markdown."""
    lines = ["| side | seconds | to the passes (quartiles) | to ours (quartiles) |", "|---|---:|---:|---:|"]
    for r in results:
        lines.append(
            f"| {r.side} | {r.seconds:.3f} | {r.to_passes:.2f} ({r.to_passes_low:.2f}-{r.to_passes_high:.2f}) "
            f"| {r.to_ours:.2f} ({r.to_ours_low:.2f}-{r.to_ours_high:.2f}) |"
        )
    return "\n".join(lines)


def peak() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(n: int, width: int = 2048, classes: int = 1008) -> list[dict[str, Any]]:
    """By how much the scores of (n, width) features raise the process's peak, one after the other, and their seconds.

    A peak never falls: a row says how much the scores up to it needed at most.
    """
    random = torch.Generator().manual_seed(0)

    def rows(columns: int) -> Tensor:
        filled = torch.empty(n, columns)
        for part in filled.split(1000):
            part.normal_(generator=random)
        return filled

    real, fake, logits = rows(width), rows(width), rows(classes)
    scores: dict[str, Callable[[], object]] = {
        "is": lambda: inception_score(logits),
        "is of the whole set": lambda: inception_score(logits, 1),
        "kid": lambda: kernel_distance(fake, real, 100, min(1000, n)),
        "prdc": lambda: prdc(real, fake),
        "fid": lambda: frechet_distance(real, fake),
    }
    before, found = peak(), []
    for name, score in scores.items():
        start = time.perf_counter()
        score()
        found.append(
            {"score": name, "megabytes": (peak() - before) / 2**20, "seconds": time.perf_counter() - start},
        )
    return found


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_fidelity": torch_fidelity.__version__,
        "torchmetrics": torchmetrics.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractor", choices=["tiny", "inception"], default="tiny")
    parser.add_argument("--n", type=int, help="images of each kind (2000), or rows with --memory (50000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: seconds that this process computed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--json", type=Path, help="write the results here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("torch_fidelity").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Metric .* will save all extracted features in buffer")
    content: dict[str, Any] = {"machine": machine()}
    if options.memory:
        content["n"] = options.n or 50_000
        content["memory"] = memory(content["n"])
        print(f"| scores of {content['n']} x 2048, so far | MB above the features | seconds |\n|---|---:|---:|")
        for row in content["memory"]:
            print(f"| {row['score']} | {row['megabytes']:.0f} | {row['seconds']:.1f} |")
    else:
        content |= {"n": options.n or 2000, "extractor": options.extractor, "batch": BATCH, "clock": options.clock}
        with tempfile.TemporaryDirectory() as folder:
            weights: str | None = None
            extractor: Extractor = Tiny()
            if options.extractor == "inception":
                path = place(InceptionV3Compat.name)
                if not path.is_file():
                    path = Path(folder) / "random.pth"
                    random_inception(path)
                weights = str(path)
                extractor = InceptionV3Compat(weights=weights)
            contest = Contest(extractor, weights, content["n"], torch.device(options.device))
            contest.agree()
            results = measure(contest, options.rounds, CLOCKS[options.clock])
        content["results"] = [asdict(r) for r in results]
        print(table(results))
    if options.json:
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
