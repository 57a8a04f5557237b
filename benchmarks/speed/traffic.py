"""Bytes of gradients that one process hands to the others in a training step, by our strategy and by Lightning's DDP.

    python benchmarks/speed/traffic.py [--models dcgan,progan,…]

Two processes (gloo) run a few steps of each quick preset. Ours is counted at `torch.distributed.all_reduce`, DDP's at
its communication hook, which sees every bucket that its reducer sends. `least` is what the step cannot do without: the
gradient of each optimizer once for each of its updates.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from lightning_gen import registry
from lightning_gen.cli import main as lgen

STEPS = 8
BATCH = 16
STRATEGIES = {"ours": "auto", "Lightning's DDP": "ddp_find_unused_parameters_true"}

sent = 0


def count_ours() -> None:
    """Gradients are float32 or half; what else is reduced (flags of Lightning's) is integers."""
    original = torch.distributed.all_reduce

    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        global sent
        sent += tensor.numel() * tensor.element_size() if tensor.is_floating_point() else 0
        return original(tensor, *args, **kwargs)

    torch.distributed.all_reduce = counted


def count_ddp() -> None:
    """Every bucket, and then what DDP does with it by itself."""
    original = DistributedDataParallel.__init__

    def hook(state: Any, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        global sent
        buffer = bucket.buffer()
        sent += buffer.numel() * buffer.element_size()
        work = torch.distributed.all_reduce(buffer, async_op=True)
        return work.get_future().then(lambda done: done.value()[0] / torch.distributed.get_world_size())

    def hooked(self: DistributedDataParallel, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.register_comm_hook(None, hook)

    DistributedDataParallel.__init__ = hooked  # type: ignore[method-assign]


def one(model: str, strategy: str, folder: str) -> None:
    """A process of the run; Lightning starts the second one by calling this script again."""
    (count_ours if strategy == "ours" else count_ddp)()
    steps = registry.load(model).presets["quick"].get("critic_steps", 1) * STEPS
    arguments = ["--model", model, "--preset", "quick", "--data.size", "96", "--data.batch_size", str(BATCH)]
    arguments += ["--kimg", str(steps * BATCH / 1000), "--out", f"{folder}/run", "--logger", "none"]
    arguments += ["--trainer.devices", "2", "--trainer.strategy", STRATEGIES[strategy]]
    arguments += ["--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--watch.every_kimg", "0"]
    lgen(["fit", *arguments], standalone_mode=False)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        Path(folder, "sent.json").write_text(json.dumps(sent / STEPS))


def measure(model: str, strategy: str) -> int | str:
    """Bytes a step, or the last line of what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", model, strategy, folder]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        found = Path(folder, "sent.json")
        if not found.exists():
            return (done.stderr.strip().splitlines() or ["failed"])[-1][:100]
        return round(json.loads(found.read_text()))


def least(model: str) -> int:
    """4 bytes for each parameter that an update changes."""
    made = registry.load(model)(**registry.load(model).presets["quick"])
    sizes = [
        sum(p.numel() for p in net.parameters() if p.requires_grad) for net in (made.generator, made.discriminator)
    ]
    return 4 * (sizes[0] + made.critic_steps * sizes[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="dcgan,wgan-gp,sngan")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(*arguments.one)
        return
    print("| model | least, bytes | ours | Lightning's DDP |\n|---|---:|---:|---:|")
    for model in arguments.models.split(","):
        bound = least(model)
        cells = [measure(model, strategy) for strategy in STRATEGIES]
        shown = [f"{c:,} ({c / bound:.2f})" if isinstance(c, int) else c for c in cells]
        print(f"| {model} | {bound:,} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
