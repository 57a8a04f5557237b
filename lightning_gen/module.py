"""The contract of a model, and the one helper that every adversarial training step uses.

A model is an ordinary LightningModule with typed keyword arguments. It owns its networks, its optimizers and its
`training_step`, which reads like the algorithm box of its paper; the base class owns the clock, the averages, the
noise and `sample`, so that every model is sampled, scored, saved and resumed in the same way.

    class MyGAN(GenerativeModule):
        \"\"\"One line that help shows.\"\"\"

        def training_step(self, batch, batch_idx):
            images = batch["image"]                                   # (B, C, H, W) in [-1, 1]
            opt_d, opt_g = self.optimizers()
            with self.update(opt_d) as step_d:                        # only D takes gradients here
                for real in step_d.parts(images):                     # one part, unless the run accumulates
                    fake = self.generator(self.randn(len(real), self.latent_dim))
                    logits_real, logits_fake = self.discriminator(real), self.discriminator(fake)
                    loss_d = minimax_d(logits_real, logits_fake)
                    step_d.backward(loss_d)                           # the step is taken when the block ends
            ...
            return self.step_output(len(images), loss_d=loss_d, loss_g=loss_g, grad_norm_d=step_d.grad_norm)

A model with one loss leaves the update to Lightning: it sets `automatic_optimization`, returns one optimizer, and its
step is the loss alone. Schedule, clipping, averages and the clock are the same.

        def training_step(self, batch, batch_idx):
            return self.step_output(len(batch["image"]), loss=self.network(batch["image"]))
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, TypedDict, final

import pytorch_lightning as pl
import torch
from jsonargparse.typing import restricted_number_type
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from lightning_gen import ema, execution, images, noise
from lightning_gen.augment import Augment
from lightning_gen.clock import Clock
from lightning_gen.errors import UserError
from lightning_gen.update import Update, UpdateOptions, fuse

BLOCK = 64
"""`sample` generates in blocks of this many images, aligned to the start of the stream."""

ORIGIN = "lightning_gen"
"""Key of a checkpoint under which stands what it is: model, distribution, version, data, preset."""

Decay = restricted_number_type("Decay", float, [(">=", 0), ("<", 1)])
"""A decay rate of Adam's."""


class StepOutput(TypedDict, total=False):
    """What leaves a training step: detached tensors that watchers and loggers read. A missing key switches off
    the watcher that needs it; further ones are recorded under their own names. Scalars, except the logits, (B,) or
    (B, 1)."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    perplexity: Tensor
    grad_norm: Tensor
    loss_d: Tensor
    loss_g: Tensor
    logits_real: Tensor
    logits_fake: Tensor
    grad_norm_d: Tensor
    grad_norm_g: Tensor


class GenerativeModule(pl.LightningModule):
    """Base of every model: images in [-1, 1], clock in images seen, samples that are a function of (seed, index)."""

    paper: ClassVar[str] = ""
    """Authors, title, year and address of the paper."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named keyword arguments of `__init__`; `paper` and `quick` always exist."""
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    """For a preset, the other settings it was made for, dotted as on the command line."""

    views: ClassVar[tuple[str, ...]] = ("image",)
    """What a training batch must hold. A model that translates names the picture that it starts from and the one that
    it makes: `source` and `target`, `a` and `b`, `low` and `high`."""
    translates: ClassVar[bool] = False
    """Whether the model makes pictures of pictures: those with two views do, others say so themselves."""
    captioned: ClassVar[bool] = False
    """Whether it draws what sentences say: batches and conditions hold `caption`, a list of them."""
    context: ClassVar[tuple[str, ...]] = ()
    """What else batches and conditions of a model that translates hold: pictures that it looks at besides the one that
    it starts from, such as other frames of a person."""
    usual_data: ClassVar[str] = "shapes"
    """The data that a run takes where nobody names any."""
    checked: ClassVar[dict[str, Any]] = {}
    """What `testing.check_model` sets besides the preset `quick`: smaller networks, shorter phases."""
    recomputed: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Blocks whose activations `update.recompute` computes again in the backward pass, not those with batch norm."""
    sets_ada: ClassVar[bool] = False
    """Whether the model sets the strength of `--augment.kind ada` itself, which then adapts to nothing."""
    any_layout: ClassVar[bool] = False
    """Whether the code of this class and of its networks takes images in any layout, and calls no `view` on them:
    convolutions are a tenth to a third faster in channels_last. What PyTorch and this package define does."""

    image_shape: tuple[int, int, int]
    """(channels, height, width) of the images that the model makes."""
    input_shape: tuple[int, int, int]
    """The same of the pictures that a translation starts from."""
    context_shapes: dict[str, tuple[int, ...]]
    """The shape of one row of each `context`, as far as the settings say it; any other that its data has will do."""
    stride: int = 1
    """Pictures to translate must have sides that are multiples of this."""
    reach: int | None = None
    """How far from a pixel of a picture a translation of it may depend on that pixel; None where all depends on all."""
    restores: bool = False
    """Whether what it decodes of its codes is better than what it was given: `lgen translate` may use it then."""
    completes: bool = False
    """Whether `generate` draws only part of images: its condition may hold `image` and `known` (n, 1, H, W) bool."""
    undecided: float | None = 0.0
    """The discriminator's output for an image of which it cannot say whether it is real, from which ada counts: 1/2
    with least squares. None where only differences of outputs mean something, as a Wasserstein critic's: then it is the
    middle between the means on real and on fake images."""
    critic_steps: int = 1
    """Discriminator updates for each generator update; `training_step` is handed this many batches in one."""
    latent_dim: int
    """Length of the latent vector, where the model has one."""
    levels: int = 256
    """Values of one number of an image that `likelihood` tells apart: those of a byte, or 2 for black and white."""
    num_classes: int = 0
    """Classes that a conditional model takes as `label`; 0 for an unconditional one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "views" in cls.__dict__ and "translates" not in cls.__dict__:
            cls.translates = len(cls.views) == 2

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.clock = Clock()
        self.seed = 0
        """Names the run's streams of order and noise; set by the experiment."""
        self.origin: dict[str, Any] = {}
        """What a checkpoint says of itself, plain values; set by the experiment."""
        self.update_options = UpdateOptions()
        """Schedule and clipping of every optimizer; set by the experiment."""
        self.augment: Augment | None = None
        """What the discriminator sees images through, real and fake alike; set by the experiment."""
        self.class_frequencies: list[float] = []
        """Share of each class in the data, for `conditions`; set by the experiment."""
        self.examples: Callable[..., dict[str, Any]] | None = None
        """`Source.examples` of the data, where a translation takes its pictures from that is given none; set by the
        experiment."""
        self.lr_scale = 1.0
        """What learning rates are multiplied by besides; each rollback cuts it."""
        self.rollbacks = 0
        """How often the run was rolled back: a new try must not draw the noise that led into the ditch."""
        self._halflives: dict[str, float] = {}
        self._followers: dict[str, ema.Follower] = {}
        self._raw = False
        self._noise = torch.Generator()
        self._counted = False
        self._stated = False  # by `step_output`, in this step
        self._update: Update | None = None
        self._seen = 0  # by a step of automatic optimization that has not been taken yet
        self._grad_norm = torch.zeros(())

    # -- what a model writes -------------------------------------------------------------------------------------

    def latents(self, n: int, *, seed: int, start: int) -> Any:
        """Latents `start .. start+n` of the stream of `seed`, on the CPU: a tensor whose rows do not depend on
        `n` or `start`. The default is standard normal, (n, latent_dim); of a model that translates, None."""
        if self.translates:
            return None
        return noise.normal(n, self.latent_dim, seed=seed, start=start)

    def generate(self, latents: Any, condition: dict[str, Any] | None = None, **options: Any) -> Tensor:
        """Images (n, *image_shape) in [-1, 1] from `latents`, through the averaged networks (`self.averaged`).
        Without a tanh at their end they may draw values beyond, which `images.to_uint8` cuts off.

        Typed keyword options (such as ``truncation: float = 1.0``) are options of `sample` too; `lgen sample` has
        `--truncation` and `--guidance` for them, and `--option KEY=VALUE` for any.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it generates")

    def encode(self, images: Tensor) -> Tensor:
        """Latents that `decode` makes these images (B, *image_shape) from, where the model has an encoder:
        (B, latent_dim), or codes of another shape."""
        raise UserError("the model has no encoder: `lgen project` searches for the latent of an image")

    def decode(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        """Images of latents as `encode` gives them; where those are not the latents of `generate`, as in models with a
        prior over their codes, the model says how."""
        return self.generate(latents, condition)

    def exportable(self) -> GenerativeModule:
        """A copy whose `generate` is one pass through networks, which `lgen export` writes down as a graph.

        Raises:
            UserError: the model has none, as where each pixel waits for the one before.
        """
        if self.completes:
            raise UserError("the model draws pixel after pixel: there is no one pass to export, but its weights can be")
        if self.captioned:
            raise UserError("the model reads sentences, which no graph does: its weights can be exported")
        return copy.deepcopy(self)

    def likelihood(self, batch: dict[str, Any], samples: int) -> dict[str, Tensor]:
        """What the model says of images: values (B,) in nats, `nll` (their negative log-likelihood) or what bounds it.

        Noise comes from `randn` and `rand`; `samples` is how many draws an estimate may take.
        """
        raise UserError("the model gives images no likelihood")

    # -- one update of one optimizer -----------------------------------------------------------------------------

    @contextmanager
    def update(self, optimizer: Optimizer | LightningOptimizer) -> Iterator[Update]:
        """Everything that one optimizer's update needs around the loss.

        Inside the block only this optimizer's parameters take gradients. When the block ends without an exception
        the gradients are averaged over the ranks and clipped, and the step is taken, at the learning rate that
        `update_options` make of the optimizer's own. Lightning counts every optimizer step in `trainer.global_step`;
        here only the first update of a training step is counted, so batches, generator updates and `global_step` are
        one number.
        """
        assert isinstance(optimizer, LightningOptimizer)
        if self._counted:
            # The loop installs its counting hooks at the start of each training step; these do all but count.
            profiler: Any = self.trainer.profiler  # type: ignore[attr-defined]
            optimizer._on_before_step = lambda: profiler.start("optimizer_step")
            optimizer._on_after_step = lambda: profiler.stop("optimizer_step")
        self._counted = True
        self._set_rate(optimizer)
        with self.toggled_optimizer(optimizer):
            optimizer.zero_grad()
            self._update = update = Update(self)
            with execution.kept_casts(self.device.type):
                yield update
            update.end()
            self._average_gradients(optimizer)
            optimizer.step()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Automatic optimization: what stands around one update, in the place of `update`.

        The training step runs inside, so what follows an update cannot be its end: it is the end of this.
        """
        self._set_rate(optimizer)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self._follow(self._seen)

    def on_after_backward(self) -> None:
        """The ranks agree on the gradients before anything looks at them."""
        if self.automatic_optimization:
            self._average_gradients(self.trainer.optimizers[0])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Measure and clip here: under fp16 the gradients have just been unscaled, earlier they have not."""
        if self._update is not None or self.automatic_optimization:
            gradients = _gradients(optimizer)
            # what `nn.utils.get_total_norm` does after it has sorted by device, in two thirds of its time
            norms = torch._foreach_norm(gradients) if gradients else [torch.zeros((), device=self.device)]
            norm = torch.linalg.vector_norm(torch.stack(list(norms)))
            if self.update_options.max_norm:
                scale = (self.update_options.max_norm / (norm + 1e-6)).clamp(max=1.0)
                torch._foreach_mul_(gradients, scale)
            if self._update is None:
                self._grad_norm.copy_(norm)
            else:
                self._update.grad_norm = norm
            self._update = None

    def _set_rate(self, optimizer: Optimizer | LightningOptimizer) -> None:
        rate = self.update_options.rate(self.clock) * self.lr_scale
        for group in optimizer.param_groups:
            # kept in the optimizer's state, as PyTorch's schedulers do: a resumed run finds it there
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate

    def _average_gradients(self, optimizer: Optimizer | LightningOptimizer) -> None:
        self._average(_gradients(optimizer))

    def _average(self, tensors: list[Tensor]) -> None:
        if self._world_size() > 1:
            self.trainer.strategy.average(tensors)  # type: ignore[attr-defined]

    def step_output(self, images_seen: int, **values: Tensor) -> StepOutput:
        """End a training step in which this rank's discriminator saw `images_seen` real images.

        The averaged networks follow, the clock moves on, and the values are detached. Under automatic optimization
        `loss` is not, the norm of its gradient is added, and average and clock wait for the update.
        """
        self._stated = True
        total = images_seen * self._world_size()
        if self.augment is not None and "logits_real" in values:
            real = values["logits_real"].detach().float()
            middle: Tensor | float | None = self.undecided
            if middle is None:
                fake = values["logits_fake"].detach().float()
                middle = self.mean_over_ranks(torch.stack([real.mean(), fake.mean()])).mean()
            self.augment.adapt(self.mean_over_ranks((real - middle).sign().mean()), total)
        outputs = {key: value.detach() for key, value in values.items()}
        if self.automatic_optimization:
            self._seen = total
            # filled by the update, which comes before anybody reads it
            self._grad_norm = values["loss"].new_zeros((), requires_grad=False)
            outputs |= {"loss": values["loss"], "grad_norm": self._grad_norm}
        else:
            if not self._counted and self._trainer is not None:
                # a model that is fitted without gradients: the budget ends a run by `global_step` all the same
                steps = self._trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
                steps.increment_ready()
                steps.increment_completed()
            self._follow(total)
        return outputs  # type: ignore[return-value]

    def _follow(self, images_seen: int) -> None:
        """After an update: the ranks, each of which saw its own rows, agree on batch-norm statistics, the averaged
        networks follow, the clock moves on."""
        if self._world_size() > 1:
            norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
            found = [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]
            self._average([statistic for statistic in found if statistic is not None])
        for name, halflife in self._halflives.items():
            if name not in self._followers:
                self._followers[name] = ema.Follower(getattr(self, f"{name}_ema"), getattr(self, name))
            self._followers[name].follow(ema.decay(images_seen, self.clock.images + images_seen, halflife))
        self.clock.advance(images_seen)

    # -- averages ------------------------------------------------------------------------------------------------

    def average(self, name: str, halflife_kimg: float) -> None:
        """Keep `{name}_ema`, the average of the network `name` with this half-life; 0 keeps none."""
        if halflife_kimg > 0:
            self._halflives[name] = halflife_kimg
            setattr(self, f"{name}_ema", ema.averaged_copy(getattr(self, name)))

    def averaged(self, name: str) -> nn.Module:
        """The network that samples are drawn from: the average where there is one, else the network itself."""
        return getattr(self, f"{name}_ema" if name in self._halflives and not self._raw else name)

    @property
    def has_averages(self) -> bool:
        """Whether some network is averaged, so that `sample` draws from other weights than training moves."""
        return bool(self._halflives)

    @contextmanager
    def raw_weights(self) -> Iterator[None]:
        """Inside, `sample` draws from the networks as training left them, not from their averages."""
        self._raw = True
        try:
            yield
        finally:
            self._raw = False

    # -- noise and batches ---------------------------------------------------------------------------------------

    def randn(self, n: int, *shape: int) -> Tensor:
        """Standard normal training noise (n, *shape) on the device: this rank's rows of the global batch's."""
        return self._this_ranks_rows(torch.randn, n, shape)

    def rand(self, n: int, *shape: int) -> Tensor:
        """Uniform [0, 1) training noise, as `randn`."""
        return self._this_ranks_rows(torch.rand, n, shape)

    def augmented(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as the discriminator shall see them: through the run's augmentation, if it has one.

        Every image that a discriminator is trained on or a generator is judged by goes through here; images that
        have been through it must not be shown as samples.
        """
        return images if self.augment is None else self.augment(images, self.rand)

    def differentiated_twice(self) -> AbstractContextManager[Any]:
        """Around a pass that a penalty differentiates twice, where no network is called with an input that takes
        gradients: nothing in it is compiled, and in bf16 on a CPU convolutions have second derivatives that are right
        (`lightning_gen.twice`), as in calls with such an input by themselves."""
        return execution.differentiated_twice(self.device.type)

    def mean_over_ranks(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes, the same on each, in a tensor of its own."""
        mean = value.clone()
        self._average([mean])
        return mean

    def _this_ranks_rows(self, draw: Any, n: int, shape: tuple[int, ...]) -> Tensor:
        world = self._world_size()
        rows = draw(n * world, *shape, generator=self._noise, device=self._noise.device)
        return rows if world == 1 else rows[n * self.global_rank : n * (self.global_rank + 1)]

    def _name_noise(self, name: int) -> None:
        if self._noise.device != self.device:
            self._noise = torch.Generator(self.device)
        self._noise.manual_seed(name)

    # -- what Lightning calls ------------------------------------------------------------------------------------

    def log(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Lightning's way to log a value puts it at the number of batches, on an axis of images.

        Raises:
            UserError: always; the message names the other way.
        """
        raise UserError(
            f"{self._called} logs {name!r} by `log`, which counts batches, not images: end training_step with "
            f"`self.step_output(..., {re.sub(r'[^A-Za-z0-9_]', '_', name)}=value)`"
        )

    @property
    def _called(self) -> str:
        return str(self.origin.get("model", type(self).__name__))

    def on_fit_start(self) -> None:
        """Optimizers are made.

        Raises:
            UserError: schedulers come with them, whose rates `update` would undo at the next step.
        """
        if self.trainer.lr_scheduler_configs:
            raise UserError(
                f"{self._called} returns schedulers with its optimizers, and rates follow the clock here: return the "
                "optimizers alone (--update.lr_decay; for a schedule of its own a model sets group['initial_lr'])"
            )

    def on_train_start(self) -> None:
        """Optimizers are there, and what a checkpoint knew of them is restored."""
        fuse(self.trainer.optimizers)
        if self.update_options.recompute:
            execution.recompute(self, self.recomputed)
        rounded = self.device.type == "cpu" and str(self.trainer.precision).endswith("-mixed")
        for network in execution.networks(self):
            if any(parameter.requires_grad for parameter in network.parameters()):  # averages are not trained
                if self.update_options.compile:
                    execution.compile(network)
                if self.update_options.compile or rounded:
                    execution.follow_penalties(network, self.device.type)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Noise is a function of (seed, images seen, rollbacks): nothing to store, and a resume is exact."""
        here = noise.mix(self.seed, self.clock.images, self.rollbacks)
        self._name_noise(here)  # the same on every rank: `randn` slices the global batch
        # What networks draw for themselves (dropout). `torch.manual_seed` would also prepare every kind of device that
        # this machine does not have, and note a stack trace for each: up to a millisecond a step.
        own = noise.mix(here, self.global_rank)
        torch.default_generator.manual_seed(own)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(own)
        self._counted = self._stated = False

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The step is over.

        Raises:
            UserError: it did not end in `step_output`, so that clock, averages and schedules would stand still.
        """
        if not self._stated:
            raise UserError(
                f"{self._called} counts no images: its training_step must end with "
                "`return self.step_output(images_seen, ...)`, images_seen being the real images of this batch"
            )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Loaders deliver bytes; on the device they become floats in [-1, 1], once. Floats pass through."""
        dtype = self.dtype
        assert isinstance(dtype, torch.dtype)
        return {
            key: images.from_uint8(value, dtype) if isinstance(value, Tensor) and value.dtype == torch.uint8 else value
            for key, value in batch.items()
        }

    def _world_size(self) -> int:
        return self._trainer.world_size if self._trainer is not None else 1

    # -- sampling ------------------------------------------------------------------------------------------------

    def as_drawn_now(self, images: Tensor) -> Tensor:
        """Real images (B, C, H, W) with as much detail as samples can have at this moment of the training, which is all
        of it but while a model grows. The watch compares samples with these."""
        return images

    @final
    @torch.no_grad()
    def sample(
        self, n: int, *, seed: int = 0, start: int = 0, condition: dict[str, Any] | None = None, **options: Any
    ) -> Tensor:
        """Images `start .. start+n` of the stream that `seed` names, (n, *image_shape) in [-1, 1] (see `generate`), on
        the device.

        Drawn in evaluation mode from the averaged weights. Image i is a function of (weights, seed, i, condition,
        options) alone, up to float rounding: how many are drawn at once, by how many processes and what was drawn
        before change nothing. The training mode and the global random state are left as they were found.

        Args:
            n: Number of images.
            seed: Names the stream.
            start: Index of the first image in the stream.
            condition: A batch of `n` rows (`label`, `caption` and so on); left out, a conditional model draws image
                i's label from (seed, i).
            options: Keyword options of the model's `generate`.
        """
        with self.asked():
            done = [
                self._sample_rows(first, last, seed, start, condition, options)
                for first, last in _aligned_blocks(start, start + n)
            ]
        return torch.cat(done) if done else torch.empty(0, *self.image_shape, device=self.device)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Inside, the model answers and does not train: evaluation mode; afterwards the training mode and the global
        random state are as they were found."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                yield
        finally:
            for module, training in modes.items():
                module.training = training

    @final
    @torch.no_grad()
    def score_images(self, batch: dict[str, Any], *, seed: int = 0, start: int = 0, samples: int = 1) -> dict[str, Any]:
        """`likelihood` of a batch as a loader gives it, in evaluation mode, with noise named by (seed, start)."""
        with self.asked():
            self._name_noise(noise.mix(seed, start))
            return self.likelihood(self.on_after_batch_transfer(_to(batch, self.device), 0), samples)

    def _sample_rows(
        self, first: int, last: int, seed: int, start: int, condition: dict[str, Any] | None, options: dict[str, Any]
    ) -> Tensor:
        torch.manual_seed(noise.mix(seed, first))
        if condition is not None:
            rows: dict[str, Any] | None = {key: value[first - start : last - start] for key, value in condition.items()}
        else:
            rows = self.conditions(last - first, seed=seed, start=first)
        latents = _to(self.latents(last - first, seed=seed, start=first), self.device)
        if rows is not None:  # pictures to translate may come as the bytes that sources give
            rows = self.on_after_batch_transfer(_to(rows, self.device), 0)
        drawn: Tensor = self.generate(latents, rows, **options)
        if not self.translates and drawn.shape != (wanted := (last - first, *self.image_shape)):
            raise UserError(
                f"the model {self._called} draws images {tuple(drawn.shape)}, not {wanted}: its generate is wrong"
            )
        return drawn

    def asked_labels(self, n: int, *, seed: int) -> Tensor | None:
        """The labels that images 0 .. n of the stream `seed` are drawn with, (n,) int64; None where there are none."""
        if self.translates:
            return None
        return (self.conditions(n, seed=seed, start=0) or {}).get("label")

    def conditions(self, n: int, *, seed: int, start: int) -> dict[str, Any] | None:
        """The condition of images `start .. start+n` where the caller gives none: a label drawn from (seed, i) with
        the frequencies of the data, the pictures of the data's rows of these numbers; None for an unconditional model.

        Raises:
            UserError: a model that translates, and no data.
        """
        if self.translates:
            if self.examples is None:
                raise UserError("the model translates pictures and was given none: `lgen translate` takes yours")
            return self.examples(n, seed=seed, start=start)
        if not self.num_classes:
            return None
        frequencies = self.class_frequencies or [1 / self.num_classes] * self.num_classes
        where = noise.uniform(n, seed=noise.mix(seed, 1), start=start)
        label = torch.searchsorted(torch.tensor(frequencies, dtype=where.dtype).cumsum(0), where, right=True)
        return {"label": label.clamp_max(self.num_classes - 1)}

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint says which model it is, from which distribution, on which data, and what builds it again."""
        checkpoint[ORIGIN] = self.origin
        if self.hparams:
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = self.own_settings()

    def own_settings(self) -> dict[str, Any]:
        """The hyper-parameters that the class's own constructor takes, which build the model again. A base's that the
        constructor decides itself are in `hparams` too."""
        taken: set[str] = set()
        for base in type(self).__mro__:
            if own := vars(base).get("__init__"):
                parameters = inspect.signature(own).parameters
                taken |= set(parameters)
                if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
                    break  # what it does not hand on is no setting
        return {key: value for key, value in self.hparams.items() if key in taken}

    def get_extra_state(self) -> dict[str, Any]:
        """What travels with the weights, as plain values."""
        return {
            "images_seen": self.clock.images,
            "rollbacks": self.rollbacks,
            "lr_scale": self.lr_scale,
            "augment_strength": self.augment.strength if self.augment else 0.0,
            "class_frequencies": self.class_frequencies,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Set the clock, and what follows it, to where the weights are."""
        self.clock.images, self.clock.latest = state["images_seen"], 0
        self.rollbacks, self.lr_scale = state["rollbacks"], state.get("lr_scale", 1.0)
        self.class_frequencies = state.get("class_frequencies", [])
        if self.augment:
            self.augment.strength = state.get("augment_strength", 0.0)


def _gradients(optimizer: Optimizer | LightningOptimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _aligned_blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, (start // BLOCK + 1) * BLOCK)
        yield start, end
        start = end


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return value
