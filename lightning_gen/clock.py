"""The clock of a run: real images that a discriminator (or a one-network model) saw, over all ranks."""

from __future__ import annotations


class Clock:
    """Images seen, as a Python integer.

    A float32 counter would stop at 2**24 = 16.8 million images, and a device buffer would cost a synchronisation
    a step. Everything that depends on time (budget, schedules, fade-in, logging axis, checkpoints, scores, grids)
    asks this clock, so nothing else has to be remembered on resume.
    """

    def __init__(self, images: int = 0):
        self.images = images
        self.latest = 0
        """Images that the latest step added; 0 before the first step."""
        self.budget = 0
        """Images after which the run ends, set by the experiment; 0 where nobody said."""

    @property
    def kimg(self) -> float:
        """Thousands of images seen."""
        return self.images / 1000

    def advance(self, images: int) -> None:
        """One step ended, in which `images` real images were seen on all ranks together."""
        self.images += images
        self.latest = images

    def passed(self, every_kimg: float) -> bool:
        """Whether the latest step reached or crossed a multiple of `every_kimg`; never for 0 (off)."""
        every = round(every_kimg * 1000)
        return every > 0 and self.images // every > (self.images - self.latest) // every

    def falling(self, share: float) -> float:
        """1, and over the last `share` of the budget linearly down to 0; always 1 where there is no budget.

        A learning rate is this function of the clock times its constant: nothing that a resume could forget.
        """
        if share <= 0 or self.budget <= 0:
            return 1.0
        return min(1.0, max(0.0, (1 - self.images / self.budget) / share))
