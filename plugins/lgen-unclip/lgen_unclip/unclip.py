"""unCLIP (DALL-E 2): Ramesh et al. 2022, https://arxiv.org/abs/2204.06125"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from lgen_unclip import diffusion
from lgen_unclip.autoregressive import AutoregressivePrior, Codes
from lgen_unclip.clip import CLIP, ImageEncoder, Text, TextEncoder
from lgen_unclip.networks import Prior, UNet
from lgen_unclip.openclip import OpenCLIP
from lgen_unclip.words import Vocabulary
from lightning_gen import noise
from lightning_gen.errors import UserError
from lightning_gen.module import GenerativeModule, StepOutput

STAGES = ("prior", "decoder", "upsampler")


class UnCLIP(GenerativeModule):
    """Text to image: CLIP, a prior from text to image embeddings, a decoder from those to pixels, super-resolution.

    One run trains all of it, side by side from the same pictures. CLIP learns for `clip_kimg` and is then left as it
    is; prior, decoder and upsampler are diffusion models, whose losses do not reach CLIP.

    Differences from the paper: all networks see the same few pictures; CLIP's image encoder is a small ConvNet;
    sentences that are alike are no negatives of each other; words are whole words of the data; the decoder takes
    the embedding beside the time only, not as further tokens, and predicts the velocity (Salimans & Ho 2022), as the
    upsampler does; the prior draws one embedding, not the better of two; the pictures to be enlarged are corrupted by
    noise of a random deviation, not blurred, and there is one such stage.

    Args:
        image_shape: (channels, height, width), square.
        vocabulary: The known words, with blanks in between; the data says it.
        prompts: Captions that images are drawn for where nobody asks; the data says them.
        prompt_labels: Label of each of the prompts, where the data has labels; the data says them.
        context: Most tokens of a caption.
        openclip: An architecture of open_clip whose encoders take the place of the CLIP that is trained here, such as
            ViT-B-32; its sizes then take the place of context, embedding_dim and text_width.
        openclip_weights: Its weights, a file or a tag such as laion2b_s34b_b79k. They are not in checkpoints.
        embedding_dim: Of the space that text and images share.
        text_width: Width of the text encoder.
        text_depth: Its blocks.
        image_width: Feature maps of the first layers of the image encoder.
        prior_kind: ``diffusion``, or ``autoregressive``: the embedding as codes, one by one, which are learnt when CLIP
            is ready.
        prior_codes: Principal components of the embeddings that the autoregressive prior keeps.
        prior_buckets: Values of each of them.
        prior_width: Width of the prior.
        prior_depth: Its blocks.
        heads: Of the attention in text encoder and prior; both widths are multiples of it.
        low: Side of what the decoder draws; the upsampler brings it to that of `image_shape`.
        decoder_width: Feature maps of the decoder's first level.
        decoder_multiples: Of that width, level by level.
        decoder_blocks: Residual blocks of a level.
        decoder_patch: Side of the squares of pixels that the first level sees as one.
        upsampler_width: Feature maps of the upsampler's first level.
        upsampler_multiples: Of that width, level by level.
        upsampler_blocks: Residual blocks of a level.
        corruption: Largest deviation of the noise on what the upsampler learns to enlarge.
        schedule: ``cosine`` or ``linear``.
        diffusion_steps: Of the process, in all three.
        prior_steps: Steps in which the diffusion prior draws an embedding.
        decoder_steps: Steps in which a small picture is drawn.
        upsampler_steps: Steps in which it is enlarged.
        guidance: Of the decoder: 1 draws from the embedding, more exaggerates what it says.
        drop: Share of the pictures that the decoder learns without their embedding, for the guidance.
        clip_kimg: Thousands of images that CLIP learns from, at the beginning.
        lr: Learning rate.
        ema_halflife_kimg: Half-life of the averaged prior, decoder and upsampler; 0 keeps no averages.
    """

    paper = (
        "Ramesh, Dhariwal, Nichol, Chu & Chen 2022, Hierarchical Text-Conditional Image Generation with CLIP Latents, "
        "https://arxiv.org/abs/2204.06125"
    )
    captioned = True
    usual_data = "captions"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # table 3 and section 2, as far as these networks have such a setting
        "paper": {
            "image_shape": (3, 256, 256),
            "context": 256,
            "embedding_dim": 1024,
            "text_width": 1024,
            "text_depth": 24,
            "prior_width": 2048,
            "prior_depth": 24,
            "heads": 32,
            "low": 64,
            "decoder_width": 512,
            "decoder_multiples": (1, 2, 3, 4),
            "decoder_blocks": 3,
            "decoder_patch": 1,
            "upsampler_width": 320,
            "upsampler_multiples": (1, 2, 3, 4),
            "upsampler_blocks": 3,
            "diffusion_steps": 1000,
            "prior_steps": 64,
            "decoder_steps": 250,
            "upsampler_steps": 27,
            "lr": 1.1e-4,
        },
        "quick": {},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 1_600_000, "data.batch_size": 2048},
        "quick": {
            "kimg": 200,
            "data.batch_size": 128,
            "update.lr_decay": 0.4,
            "update.lr_warmup_kimg": 2.0,
            "update.max_norm": 1.0,
            "metrics.samples": 192,
            "metrics.every_kimg": 200.0,
            "samples.every_kimg": 100.0,
            "samples.count": 48,
        },
    }
    any_layout = True
    checked: ClassVar[dict[str, Any]] = {
        "image_shape": (3, 16, 16), "vocabulary": "0 1 2 3 4 5 6 7 8 9 10 11 12", "low": 8, "clip_kimg": 0.008,
        "prior_steps": 2, "decoder_steps": 2, "upsampler_steps": 2, "decoder_width": 8, "upsampler_width": 8,
        "image_width": 4, "text_width": 8, "prior_width": 8, "embedding_dim": 8, "heads": 2,
    }  # fmt: skip

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        vocabulary: str = "",
        prompts: tuple[str, ...] = (),
        prompt_labels: tuple[int, ...] = (),
        openclip: str = "",
        openclip_weights: str = "",
        context: PositiveInt = 24,
        embedding_dim: PositiveInt = 64,
        text_width: PositiveInt = 64,
        text_depth: PositiveInt = 2,
        image_width: PositiveInt = 32,
        prior_kind: Literal["diffusion", "autoregressive"] = "diffusion",
        prior_codes: PositiveInt = 24,
        prior_buckets: PositiveInt = 64,
        prior_width: PositiveInt = 128,
        prior_depth: PositiveInt = 2,
        heads: PositiveInt = 4,
        low: PositiveInt = 16,
        decoder_width: PositiveInt = 64,
        decoder_multiples: tuple[int, ...] = (1, 2),
        decoder_blocks: PositiveInt = 1,
        decoder_patch: PositiveInt = 2,
        upsampler_width: PositiveInt = 32,
        upsampler_multiples: tuple[int, ...] = (1, 2),
        upsampler_blocks: PositiveInt = 1,
        corruption: NonNegativeFloat = 0.2,
        schedule: diffusion.Name = "cosine",
        diffusion_steps: PositiveInt = 1000,
        prior_steps: PositiveInt = 16,
        decoder_steps: PositiveInt = 20,
        upsampler_steps: PositiveInt = 8,
        guidance: NonNegativeFloat = 3.0,
        drop: ClosedUnitInterval = 0.1,
        clip_kimg: NonNegativeFloat = 160.0,
        lr: PositiveFloat = 1e-3,
        ema_halflife_kimg: NonNegativeFloat = 10.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = True  # one loss, though of three parts
        channels, side, breadth = image_shape
        if side != breadth or side < 8 or side & (side - 1):
            raise UserError(f"unclip draws squares with a side of a power of two from 8 on, not {side} x {breadth}")
        if low >= side or low & (low - 1) or low < 4:
            raise UserError(f"--model.low {low}: a power of two from 4 on, below the {side} of the images")
        for name, side_of, multiples in (
            ("decoder_multiples", low // decoder_patch, decoder_multiples),
            ("upsampler_multiples", low, upsampler_multiples),
        ):
            if side_of % 2 ** (len(multiples) - 1) or side_of < 2 ** len(multiples):
                raise UserError(f"--model.{name}: {side_of} cannot be halved {len(multiples) - 1} times: name fewer")
        for name, width in (("text_width", text_width), ("prior_width", prior_width)):
            if width % heads:
                raise UserError(f"--model.{name} {width} is no multiple of --model.heads {heads}")
        self.image_shape = tuple(image_shape)
        self.vocabulary = Vocabulary(vocabulary.split(), context)
        dim = embedding_dim
        self._openclip = OpenCLIP(openclip, openclip_weights) if openclip else None
        if self._openclip is None:
            self.clip = CLIP(
                TextEncoder(self.vocabulary.size, context, text_width, text_depth, heads, dim),
                ImageEncoder(self.image_shape, image_width, dim),
            )
        else:
            dim, context, text_width = self._openclip.dim, self._openclip.context, self._openclip.text_width
            self.register_buffer("openclip_digest", torch.tensor(self._openclip.digest))
            self.register_load_state_dict_post_hook(_same_weights)
        self._dim = dim
        of_prior = (dim, text_width, prior_width, prior_depth, heads, context)
        self.prior: Prior | AutoregressivePrior
        if prior_kind == "diffusion":
            self.prior = Prior(*of_prior)
        else:
            if prior_codes > dim:
                raise UserError(f"--model.prior_codes {prior_codes}: an embedding has {dim} components")
            self.prior = AutoregressivePrior(Codes(dim, prior_codes, prior_buckets), *of_prior)
        self.decoder = UNet(channels, decoder_width, decoder_multiples, decoder_blocks, dim=dim, patch=decoder_patch)
        self.upsampler = UNet(
            channels, upsampler_width, upsampler_multiples, upsampler_blocks,
            patch=side // low, beside=channels, attention=False,
        )  # fmt: skip
        for name in STAGES:
            self.average(name, ema_halflife_kimg)
        self.alpha_bar = diffusion.schedule(schedule, diffusion_steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.hparams.lr)

    # -- training ------------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> StepOutput:
        images = batch["image"]
        with torch.no_grad():  # of CLIP the others only read
            text, embedding = self._text_of(batch["caption"]), self._image_embeddings(images)
            small = F.avg_pool2d(images, images.shape[-1] // self.hparams.low)
        loss = self._prior_loss(embedding, text) + self._decoder_loss(small, embedding)
        loss = loss + self._upsampler_loss(images, small)
        if self._openclip is None and self.clock.kimg < self.hparams.clip_kimg:
            loss = loss + self.clip.loss(images, self.vocabulary.encode(batch["caption"]).to(self.device))
        return self.step_output(len(images), loss=loss)

    def _prior_loss(self, embedding: Tensor, text: Text) -> Tensor:
        """Eq. 2: the embedding itself is guessed; or the cross-entropy of its codes, once CLIP does not move them."""
        if isinstance(self.prior, AutoregressivePrior):
            codes = self.prior.codes
            if self.clock.kimg < self.hparams.clip_kimg:
                codes.watch(embedding)
                # what a prior pays that knows nothing: the loss that is logged must not jump when it begins to learn
                return embedding.new_full((), math.log(codes.buckets))
            if not codes.settled:
                codes.watch(embedding)
                codes.settle()
            return self.prior.loss(embedding, text, self._scale)
        x0 = self._scale * embedding
        t, a, eps = self._drawn(x0)
        return F.mse_loss(self.prior(diffusion.noised(x0, eps, a), self._share(t), text, self._scale), x0)

    def _decoder_loss(self, small: Tensor, embedding: Tensor) -> Tensor:
        """Section 2.1; a picture in ten comes without its embedding."""
        given = self._scale * embedding
        given = given * (self.rand(len(given), 1) >= self.hparams.drop)
        t, a, eps = self._drawn(small)
        v = self.decoder(diffusion.noised(small, eps, a), self._share(t), given)
        return F.mse_loss(v, diffusion.velocity(small, eps, a))

    def _upsampler_loss(self, images: Tensor, small: Tensor) -> Tensor:
        """Section 2.1: from crops of half the side; it sees the small picture, corrupted, and nothing of the text."""
        half, factor = self.hparams.low // 2, images.shape[-1] // self.hparams.low
        top, left = (self.rand(2) * (half + 1)).long().clamp(max=half).tolist()
        small = small[..., top : top + half, left : left + half]
        top, left, side = factor * top, factor * left, factor * half
        images = images[..., top : top + side, left : left + side]
        deviation = self.hparams.corruption * self.rand(len(small), 1, 1, 1)
        beside = small + deviation * self.randn(len(small), *small.shape[1:])
        t, a, eps = self._drawn(images)
        v = self.upsampler(diffusion.noised(images, eps, a), self._share(t), beside=beside)
        return F.mse_loss(v, diffusion.velocity(images, eps, a))

    def _drawn(self, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Times 1 .. T (B,), their alpha-bar and noise like x0."""
        total = len(self.alpha_bar) - 1
        t = (self.rand(len(x0)) * total).long().clamp(max=total - 1) + 1
        return t, diffusion.at(self.alpha_bar, t, x0), self.randn(len(x0), *x0.shape[1:])

    def _share(self, t: Tensor) -> Tensor:
        return t.float() / (len(self.alpha_bar) - 1)

    @property
    def _scale(self) -> float:
        """Brings embeddings of length 1 to entries of deviation 1, which the noise has."""
        return math.sqrt(self._dim)

    # -- sampling ------------------------------------------------------------------------------------------------

    def conditions(self, n: int, *, seed: int, start: int) -> dict[str, Any]:
        """Captions drawn from (seed, i) among the prompts, with their labels; empty ones where there are none."""
        prompts = self.hparams.prompts
        if not prompts:
            return {"caption": [""] * n}
        where = (noise.uniform(n, seed=noise.mix(seed, 1), start=start) * len(prompts)).long().tolist()
        labels = self.hparams.prompt_labels
        condition: dict[str, Any] = {"caption": [prompts[i] for i in where]}
        return condition | ({"label": torch.tensor([labels[i] for i in where])} if labels else {})

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """(n, 2): the seed and the index. They name the noise of all stages and steps."""
        return torch.stack([torch.full((n,), seed), torch.arange(start, start + n)], dim=1)

    def generate(
        self,
        latents: Tensor,
        condition: dict[str, Any] | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        sampler: diffusion.Sampler = "ddim",
    ) -> Tensor:
        """Images for `caption` (n sentences), or for `embedding` (n, dim), where the prior has nothing to do.

        `guidance` and the decoder's `steps` are the model's unless they are named. The ``ddpm`` sampler adds noise at
        every step, ``ddim`` none.
        """
        assert condition is not None
        given = condition.get("embedding")
        if given is None:
            given = self.imagine(latents, condition["caption"], sampler)
        given = self._scale * F.normalize(given, dim=1)
        strength = self.hparams.guidance if guidance is None else guidance
        channels, low = self.image_shape[0], self.hparams.low
        decoder, upsampler = self.averaged("decoder"), self.averaged("upsampler")

        def guided(x: Tensor, t: Tensor) -> Tensor:
            """Ho & Salimans 2021, eq. 6, of velocities: they are linear in the noise."""
            if strength == 1:
                return decoder(x, t, given)
            both = decoder(torch.cat([x, x]), torch.cat([t, t]), torch.cat([given, torch.zeros_like(given)]))
            with_it, without = both.chunk(2)
            return without + strength * (with_it - without)

        small = self._diffused(latents, 1, (channels, low, low), guided, steps or self.hparams.decoder_steps, sampler)
        return self._diffused(
            latents,
            2,
            self.image_shape,
            lambda x, t: upsampler(x, t, beside=small),
            self.hparams.upsampler_steps,
            sampler,
        )

    def imagine(self, latents: Tensor, captions: list[str], sampler: diffusion.Sampler = "ddim") -> Tensor:
        """Image embeddings (n, dim) of length 1 that the prior draws for captions.

        Raises:
            UserError: a word that the model has not learnt.
        """
        if self._openclip is None:
            self.vocabulary.require(captions)
        text = self._text_of(captions)
        prior = self.averaged("prior")
        if isinstance(prior, AutoregressivePrior):

            def chance(k: int) -> Tensor:
                return torch.special.ndtr(self._normal(latents, 0, k, (1,))[:, 0])

            return F.normalize(prior.sample(text, self._scale, chance), dim=1)

        def guess(x: Tensor, t: int) -> Tensor:
            return prior(x, self._times(len(x), t), text, self._scale)

        shape = (self._dim,)
        x = self._normal(latents, 0, len(self.alpha_bar) - 1, shape)
        drawn = diffusion.sample(
            guess,
            x,
            self.alpha_bar,
            self.hparams.prior_steps,
            sampler,
            lambda t: self._normal(latents, 0, t - 1, shape),
        )
        return F.normalize(drawn, dim=1)

    def _diffused(self, latents: Tensor, stage: int, shape: Any, velocity: Any, steps: int, sampler: Any) -> Tensor:
        def guess(x: Tensor, t: int) -> Tensor:
            a = self.alpha_bar[t].to(x.device, x.dtype)
            return diffusion.start_of(x, velocity(x, self._times(len(x), t)), a).clamp(-1, 1)

        x = self._normal(latents, stage, len(self.alpha_bar) - 1, shape)
        return diffusion.sample(
            guess, x, self.alpha_bar, steps, sampler, lambda t: self._normal(latents, stage, t - 1, shape)
        ).clamp(-1, 1)

    def _times(self, n: int, t: int) -> Tensor:
        return torch.full((n,), t / (len(self.alpha_bar) - 1), device=self.device)

    def _normal(self, latents: Tensor, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal (n, *shape): each row a function of its seed and index, the stage and the step."""
        rows = [
            noise.normal(1, *shape, seed=noise.mix(seed, stage, step), start=index) for seed, index in latents.tolist()
        ]
        return torch.cat(rows).to(self.device)

    # -- the shared space ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embeddings (B, dim) of length 1 of images (B, *image_shape) in [-1, 1]."""
        return self._image_embeddings(images.to(self.device))

    @torch.no_grad()
    def embed_captions(self, captions: list[str]) -> Tensor:
        """Embeddings (B, dim) of length 1 of sentences."""
        return self._text_of(captions).embedding

    def _image_embeddings(self, images: Tensor) -> Tensor:
        return self.clip.image(images) if self._openclip is None else self._openclip.image(images)

    def _text_of(self, captions: list[str]) -> Text:
        if self._openclip is None:
            return self.clip.text(self.vocabulary.encode(captions).to(self.device))
        return self._openclip.text(captions, self.device)


def _same_weights(model: UnCLIP, keys: Any) -> None:
    """After loading: what was learnt from one CLIP means nothing to another."""
    assert model._openclip is not None
    if int(model.openclip_digest) != model._openclip.digest:
        raise UserError(
            f"{model.hparams.openclip_weights} are other weights of {model.hparams.openclip} than those that the model "
            "learnt from"
        )
