"""A net that a semantic prior may guide: what all of them do with the prior's maps, whatever they look like inside.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, section 3; https://arxiv.org/abs/2302.06898
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from deblur_cli.nets.embedding import PriorEmbedding
from deblur_cli.nets.prior import PriorConfig, PriorMaps, SemanticPrior


class Guidance:
    """The prior's maps of one batch on their way through the decoders; without a prior, nothing happens on the way.

    Args:
        embed: of the net, or None.
        maps: the map M of each level, finest first; of no prior, none.
    """

    def __init__(self, embed: PriorEmbedding | None, maps: Sequence[Tensor] = ()) -> None:
        self._embed = embed
        self._maps = list(maps)

    def fuse(self, index: int, features: Tensor, *, keep: bool = False) -> Tensor:
        """Eq. 6 at insertion ``index``: ``features`` is f_de + f_en; same shape.

        Insertions are visited in their order: after the last one of a level the level's map is let go, unless the net
        comes back to it and says ``keep``.
        """
        if self._embed is None:
            return features
        level = self._embed.levels[index]
        fused = self._embed.fuse[index](features, self._maps[level])
        if not keep and level not in self._embed.levels[index + 1 :]:
            self._maps[level] = fused.new_empty(0)
        return fused

    def divided(self, divide: Callable[[Tensor], Tensor]) -> "Guidance":
        """The same for what ``divide`` makes of the image, such as a batch of its patches."""
        return Guidance(self._embed, [divide(each) for each in self._maps])

    def halves(self) -> tuple["Guidance", "Guidance"]:
        """The same for the upper and the lower half of the image."""
        pairs = [each.chunk(2, dim=2) for each in self._maps]
        return Guidance(self._embed, [upper for upper, _ in pairs]), Guidance(
            self._embed, [lower for _, lower in pairs]
        )


class GuidedNet(nn.Module, ABC):
    """Blurred image to a tuple of restored images, with or without a prior; a net says the rest in ``_restore``."""

    prior: SemanticPrior | None
    embed: PriorEmbedding | None

    def guide(self, config: PriorConfig | None, insertions: Sequence[tuple[int, int]]) -> None:
        """Add the prior, if there is one: last, so that the same seed gives the rest the weights of the plain net.

        Args:
            config: of the prior, or None.
            insertions: (level, channels) of each place where it enters, in the order of their visits.
        """
        self.prior = None if config is None else SemanticPrior(config)
        self.embed = None if config is None else PriorEmbedding(config, insertions)

    def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
        """Restore ``blurred``.

        Args:
            blurred: (N, 3, H, W) float RGB in [0, 1], H and W multiples of ``config.multiple_of``.

        Returns:
            Restored images, the final one first, (N, 3, H, W), in the dtype of ``blurred`` whatever that of the weights;
            in training those of the earlier stages or smaller scales follow.
        """
        image = blurred.to(next(self.parameters()).dtype)
        if self.prior is None or self.embed is None:
            return self._restore(blurred, image, Guidance(None))
        # The prior goes first: its maps are wide, and nothing of the net need wait in memory meanwhile.
        return self._restore(blurred, image, Guidance(self.embed, self.embed(self.prior(image).f_pri)))

    def forward_with_prior(self, blurred: Tensor) -> tuple[tuple[Tensor, ...], PriorMaps]:
        """Restore ``blurred`` as :meth:`forward` does, and show the prior's maps too, for the distillation loss."""
        if self.prior is None or self.embed is None:
            raise ValueError("This net has no prior.")
        image = blurred.to(next(self.parameters()).dtype)
        maps: PriorMaps = self.prior(image)
        return self._restore(blurred, image, Guidance(self.embed, self.embed(maps.f_pri))), maps

    @abstractmethod
    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        """The net itself.

        Args:
            blurred: as it came; what the net predicts as a change is added to this.
            image: the same in the dtype of the weights.
            guidance: for each insertion.
        """
