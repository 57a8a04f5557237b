"""Lightning's Trainer as a run needs it, the processes that a launcher started, and what need not be said of either."""

from __future__ import annotations

import logging
import math
import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_gen import checkpoints, execution
from lightning_gen.data.module import RunData
from lightning_gen.errors import UserError
from lightning_gen.strategy import PerOptimizerDDP


def is_first_process() -> bool:
    """Whether this is the one process of a run that checks, writes and speaks, by what its launcher told it:
    Lightning itself, torchrun or SLURM. Known before the processes know each other. An empty variable says nothing."""
    return all((os.environ.get(name) or "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


def trainer(values: dict[str, Any], out: Path, data: RunData, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer, without loggers: they write. It starts no process before `fit`."""
    _look_for_gpus_once()
    execution.keep_freed_memory()
    try:
        made = pl.Trainer(
            **_devices(values),
            max_epochs=-1,
            max_steps=steps(values, data),
            default_root_dir=out,
            logger=False,
            callbacks=callbacks,
            plugins=[checkpoints.AtomicCheckpointIO()],
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_autolog_hparams=False,
        )
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as reason:
        # all that varies here is the user's: devices, accelerator, strategy, precision, profiler
        raise UserError(f"Lightning refuses the --trainer settings: {str(reason).strip().splitlines()[0]}") from reason
    if made.precision in ("bf16-true", "16-true"):
        # an average of such weights stands still: what a step adds to it is less than their last digit
        raise UserError(
            f"--trainer.precision {made.precision}: weights and their averages need float32, "
            f"which {made.precision.replace('true', 'mixed')} leaves them"
        )
    if made.precision == "64-true":
        # samples, noise and what the losses are computed in would stay float32, and most networks take no mixture
        raise UserError("--trainer.precision 64-true: losses, noise and samples are float32 here: 32-true")
    if made.precision == "bf16-mixed" and str(values["trainer"]["precision"]) in ("16", "16-mixed"):
        # Lightning takes bf16 in its place, and the run would say that it was the other
        raise UserError("--trainer.precision 16-mixed is for GPUs: bf16-mixed is a CPU's")
    _refuse_other_processes(values, made)
    if data.batch_size % made.world_size:
        raise UserError(f"--data.batch_size {data.batch_size} cannot be divided among {made.world_size} processes")
    of_one, parts = data.batch_size // made.world_size, values["update"]["accumulate"]
    if of_one % parts:
        raise UserError(f"--update.accumulate {parts} does not divide the {of_one} images of a process's batch")
    return made


def steps(values: dict[str, Any], data: RunData) -> int:
    """Training steps that make up the budget, rounded up."""
    return math.ceil(round(values["kimg"] * 1000) / data.images_per_step)


def _devices(values: dict[str, Any]) -> dict[str, Any]:
    """The user's Trainer settings, with our strategy where there are several processes."""
    chosen = dict(values["trainer"])
    if chosen.get("accelerator", "auto") == "auto" and not torch.cuda.is_available():
        chosen["accelerator"] = "cpu"
        if chosen.get("devices", "auto") == "auto":
            chosen["devices"] = 1
    if isinstance(chosen.get("devices"), str) and chosen["devices"].isdigit():
        chosen["devices"] = int(chosen["devices"])
    if chosen.get("precision") is None:
        # written back: a run keeps the precision it began with, on whatever machine it is resumed
        chosen["precision"] = values["trainer"]["precision"] = execution.fast_precision(chosen["accelerator"])
    several = chosen.get("num_nodes", 1) > 1 or chosen.get("devices") not in (1, "auto", [0], "1")
    several |= chosen.get("devices") == "auto" and torch.cuda.device_count() > 1
    if chosen.get("strategy", "auto") == "auto" and several:
        chosen["strategy"] = PerOptimizerDDP()
    if chosen.get("profiler") is None:
        chosen["profiler"] = Unprofiled()
    return chosen


class Unprofiled(PassThroughProfiler):
    """Nobody measures, and it costs nothing: Lightning enters one of these for each callback at each of its hooks, a
    hundred times a step, and its own makes a generator each time."""

    _nothing: ClassVar = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._nothing


def _look_for_gpus_once() -> None:
    """Adam asks at each step whether a GPU records it, and Lightning has PyTorch look for the driver's library at each
    question, which takes a third of a millisecond where there is none."""
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def _refuse_other_processes(values: dict[str, Any], trainer: pl.Trainer) -> None:
    """What a launcher started must be what the trainer counts on, and know how to average gradients."""
    processes = trainer.num_nodes * trainer.num_devices
    for launcher, environment, variable in (
        ("torchrun", TorchElasticEnvironment, "WORLD_SIZE"),
        ("SLURM", SLURMEnvironment, "SLURM_NTASKS"),
    ):
        if environment.detect():
            started = int(os.environ[variable])
            if started != processes:
                raise UserError(
                    f"{launcher} started {started} processes, and --trainer.num_nodes x --trainer.devices are "
                    f"{trainer.num_nodes} x {trainer.num_devices}: they must be as many"
                )
            break
    if processes > 1 and not hasattr(trainer.strategy, "average"):
        raise UserError(
            f"--trainer.strategy {values['trainer']['strategy']} cannot be used by {processes} processes: "
            "leave it out, for gradients are averaged optimizer by optimizer here"
        )


class quiet(warnings.catch_warnings):  # noqa: N801 - read as a verb: `with quiet():`
    """Lightning's hints that do not apply here, and no others."""

    def __enter__(self) -> Any:
        log = super().__enter__()
        # devices, tips and "Trainer.fit stopped": said by the command line in its own words
        logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
        # loading without running code is `checkpoints.read`'s, and a hint at every save ("`weights_only` was not set")
        logging.getLogger("pytorch_lightning.trainer.connectors.checkpoint_connector").setLevel(logging.WARNING)
        # one vectorised read makes a whole batch; workers would only add latency
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # the stream has no end by design, the budget is max_steps
        warnings.filterwarnings("ignore", message=".*that there are no more epochs.*")
        # order is a function of (seed, images seen): the stream resumes itself
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        # a run directory that exists is what resuming means
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        # uint8 batches become floats in the module, for every source in the same way
        warnings.filterwarnings("ignore", message=".*overridden `on_after_batch_transfer`.*")
        # torch's, inside Lightning's own tree utilities
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
        # refused by `trainer`
        warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU.*")
        # torch's compiler, looking at what it was handed
        warnings.filterwarnings("ignore", message=".*The .grad attribute of a Tensor that is not a leaf.*")
        # one step a log record is ours to choose
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*")
        return log
