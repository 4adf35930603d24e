"""The numbers of a training run: how long, how fast, how careful."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The dials of :func:`deblur_cli.trainer.fit`."""

    steps: int
    """Steps of the whole run, earlier spells included."""
    batch: int
    """Crops per step, over all processes."""
    seed: int = 0
    rate: float = 2e-4
    """Learning rate after the warm-up."""
    final_rate: float = 1e-6
    """Learning rate of the last step."""
    warmup: int = 0
    """Steps over which the rate rises from nothing."""
    hold: int = 0
    """Steps (warm-up included) before the rate begins to fall."""
    drops: tuple[float, ...] = ()
    """Where the rate drops, by the same factor each time, as shares of the steps that it falls in; empty: it falls smoothly."""
    power: float = 0.0
    """Of the distance to the end, by which the rate falls; 0: along half a cosine."""
    optimiser: str = "adamw"
    """``adamw``, ``adam``, or ``muon`` for the filters with AdamW for the rest."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam and AdamW: decay per step of the mean gradient and of the mean square."""
    weight_decay: float = 0.01
    clip: float = 0.0
    """Largest norm of the gradient; 0 clips nothing."""
    average: float = 0.999
    """Decay per step of the averaged weights, that are validated and kept; 0 keeps the last ones."""
    precision: str = "fp32"
    """``fp32``, ``bf16`` or ``fp16``: what the forward pass computes in. The weights stay float32."""
    compile: bool = False
    patience: int = 50
    """Consecutive steps without a finite gradient after which the run is given up."""
    log_every: int = 50
    """Steps between two events :class:`Step`."""
    validate_every: int = 2000
    """Steps between two validations; the last step is always validated."""
    save_minutes: float = 5.0
    """Minutes between two saves."""

    def rate_at(self, step: int) -> float:
        """The learning rate of ``step`` (from 0): linear warm-up, a plateau, then the fall to :attr:`final_rate`."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        start = max(self.warmup, min(self.hold, self.steps))
        if step < start:
            return self.rate
        if self.drops:
            passed = sum(step - start >= share * (self.steps - start) for share in self.drops)
            return self.rate * (self.final_rate / self.rate) ** (passed / len(self.drops))
        done = min(1.0, (step - start) / max(1, self.steps - 1 - start))
        left = (1 - done) ** self.power if self.power else (1 + math.cos(math.pi * done)) / 2
        return self.final_rate + (self.rate - self.final_rate) * left
