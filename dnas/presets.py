"""Published searches, as choices of parts with the papers' numbers."""

import dataclasses
from collections.abc import Callable

import jax
import optax

from dnas import checks, optimizers
from dnas.bilevel import Search, bilevel
from dnas.hypergrad import Hypergradient, first_order, unrolled
from dnas.relax import Relaxation, softmax
from dnas.space import SearchSpace, Task


@dataclasses.dataclass(frozen=True)
class Preset:
    """The settings of a bilevel search; the defaults are those of DARTS (Liu et al., 2019).

    Attributes:
      relaxation: makes the relaxation, given the number of steps of the whole search.
      hypergradient: estimates the gradient in alphas.
      epochs: passes over the weights' half of the training images.
      batch_size: of either half, over all devices.
      learning_rate: of the weights, at the start.
      final_learning_rate: of the weights, at the end of the cosine, which advances every step.
      momentum: of the weights' SGD.
      weight_decay: of the weights.
      clip_norm: the weights' gradient is scaled down to this norm; 0 for no clipping.
      alpha_learning_rate: of alphas' Adam.
      alpha_betas: of alphas' Adam.
      alpha_weight_decay: of alphas; added to their gradient.
    """

    relaxation: Callable[[int], Relaxation] = lambda steps: softmax()
    hypergradient: Hypergradient = dataclasses.field(default_factory=first_order)
    epochs: int = 50
    batch_size: int = 64
    learning_rate: float = 0.025
    final_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip_norm: float = 5.0
    alpha_learning_rate: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3

    def __post_init__(self):
        checks.whole("epochs", self.epochs)
        checks.whole("batch_size", self.batch_size)
        for name in ("learning_rate", "alpha_learning_rate"):
            checks.positive(name, getattr(self, name))
        for name in ("final_learning_rate", "weight_decay", "clip_norm", "alpha_weight_decay"):
            checks.not_negative(name, getattr(self, name))
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate}: expected at most "
                f"learning_rate={self.learning_rate}"
            )
        checks.fraction("momentum", self.momentum)
        if len(self.alpha_betas) != 2 or not all(0 <= beta < 1 for beta in self.alpha_betas):
            raise ValueError(
                f"alpha_betas={self.alpha_betas!r}: expected two numbers from 0 to below 1"
            )

    def weight_optimizer(self, steps: int) -> optax.GradientTransformation:
        """SGD with momentum, a cosine over that many steps, weight decay and clipping."""
        return optimizers.sgd(
            self.learning_rate,
            self.final_learning_rate,
            steps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )

    def alpha_optimizer(self) -> optax.GradientTransformation:
        """Adam with weight decay in the gradient, as PyTorch has it."""
        return optax.chain(
            optax.add_decayed_weights(self.alpha_weight_decay),
            optax.adam(self.alpha_learning_rate, *self.alpha_betas),
        )

    def build(
        self,
        space: SearchSpace,
        task: Task,
        *,
        steps_per_epoch: int,
        epochs: int,
        preprocess: Callable[[jax.Array, jax.Array], jax.Array],
        axis_name: str | None = None,
    ) -> Search:
        """Assembles the search for that many steps; see `dnas.bilevel.bilevel`."""
        steps = steps_per_epoch * epochs
        return bilevel(
            space,
            task,
            relaxation=self.relaxation(steps),
            hypergradient=self.hypergradient,
            weight_optimizer=self.weight_optimizer(steps),
            alpha_optimizer=self.alpha_optimizer(),
            preprocess=preprocess,
            axis_name=axis_name,
        )


def darts(order: int = 1, **changes) -> Preset:
    """DARTS, of first or second order (Liu, Simonyan and Yang, 2019).

    Args:
      order: 1 takes the present weights for the best ones, 2 differentiates through a step.
      **changes: other values for the attributes of `Preset`.

    Raises:
      ValueError: `order` is neither.
    """
    orders = {1: first_order, 2: unrolled}
    if order not in orders:
        raise ValueError(f"order={order!r}: expected 1 or 2")
    return dataclasses.replace(Preset(hypergradient=orders[order]()), **changes)
