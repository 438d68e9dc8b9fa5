"""A search's settings in one place, and the search that they make."""

import dataclasses
from collections.abc import Callable, Sequence

import optax

from dnas import checks, sequences
from dnas.gradient import optimizers, relax
from dnas.gradient.alignment import WeightPenalty
from dnas.gradient.bilevel import Search, bilevel
from dnas.gradient.fit import check_tables
from dnas.gradient.freeze import Freeze
from dnas.gradient.hypergrad import Hypergradient, first_order
from dnas.gradient.perturb import Perturbation
from dnas.gradient.regularize import Regularizer
from dnas.gradient.relax import Relaxation
from dnas.gradient.skeleton import skeleton
from dnas.gradient.stopping import Stopping
from dnas.presets import arguments
from dnas.presets.stages import Span, Stage
from dnas.runtime import memory
from dnas.selection import Selection
from dnas.space import SearchSpace
from dnas.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Preset:
    """The settings of a bilevel search; the defaults are those of DARTS (Liu et al., 2019).

    Parts with schedules are functions of the number of steps that they spread over; see
    `dnas.gradient.bilevel.bilevel` for what the parts are. Parts that are None are left out.

    Attributes:
      relaxation: makes the relaxation, given the number of steps of the whole search.
      hypergradient: estimates the gradient in alphas.
      modify: makes of the user's space the one to search, with another mixing for instance.
      regularizers: ``(steps, space) -> regularizers`` of alphas.
      weight_penalty: ``(steps, space) -> penalty`` in the gradient of the weights.
      perturbation: ``steps -> perturbation`` of the mix at which weights train.
      freeze: ends the training of single operations.
      auxiliary_skip: ``steps -> schedule`` of the auxiliary skip connections' weight.
      skip_dropout: ``steps -> schedule`` of the dropout behind skip connections.
      stopping: ``space -> rule`` that may end the search early.
      selection: chooses the architecture at the end; the space's own rule by default.
      stages: parts of the search with supernets of their own; a single one by default.
      epochs: passes over the weights' half of the training images.
      warmup: share of the epochs, of every stage, in which alphas stay as they are.
      alpha_interval: steps of the weights for each step of alphas.
      batch_size: of either half, over all devices.
      learning_rate: of the weights, at the start.
      final_learning_rate: of the weights, at the end of the cosine, which advances every step.
      momentum: of the weights' SGD.
      weight_decay: of the weights.
      clip_norm: the weights' gradient is scaled down to this norm; 0 for no clipping.
      alpha_learning_rate: of alphas' Adam.
      alpha_betas: of alphas' Adam.
      alpha_weight_decay: of alphas; added to their gradient.
      alpha_scale: standard deviation of the initial alphas.
    """

    relaxation: Callable[[int], Relaxation] = lambda steps: relax.softmax()
    hypergradient: Hypergradient = dataclasses.field(default_factory=first_order)
    modify: Callable[[SearchSpace], SearchSpace] = lambda space: space
    regularizers: Callable[[int, SearchSpace], Sequence[Regularizer]] | None = None
    weight_penalty: Callable[[int, SearchSpace], WeightPenalty] | None = None
    perturbation: Callable[[int], Perturbation] | None = None
    freeze: Freeze | None = None
    auxiliary_skip: Callable[[int], optax.Schedule] | None = None
    skip_dropout: Callable[[int], optax.Schedule] | None = None
    stopping: Callable[[SearchSpace], Stopping] | None = None
    selection: Selection | None = None
    stages: tuple[Stage, ...] = ()
    epochs: int = 50
    warmup: float = 0.0
    alpha_interval: int = 1
    batch_size: int = 64
    learning_rate: float = 0.025
    final_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip_norm: float = 5.0
    alpha_learning_rate: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3
    alpha_scale: float = 1e-3

    def __post_init__(self):
        checks.whole("epochs", self.epochs)
        checks.whole("alpha_interval", self.alpha_interval)
        checks.whole("batch_size", self.batch_size)
        for name in ("learning_rate", "alpha_learning_rate"):
            checks.positive(name, getattr(self, name))
        for name in ("final_learning_rate", "weight_decay", "clip_norm"):
            checks.not_negative(name, getattr(self, name))
        for name in ("alpha_weight_decay", "alpha_scale"):
            checks.not_negative(name, getattr(self, name))
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate}: expected at most "
                f"learning_rate={self.learning_rate}"
            )
        for name in ("momentum", "warmup"):
            checks.fraction(name, getattr(self, name))
        for name in arguments.EXAMPLES:
            if getattr(self, name) is not None or name in ("relaxation", "hypergradient", "modify"):
                arguments.check_part(name, getattr(self, name))
        if self.freeze is not None and not isinstance(self.freeze, Freeze):
            raise ValueError(
                f"freeze={checks.shown(self.freeze)}: expected a "
                "dnas.gradient.freeze.Freeze, such as dnas.gradient.freeze.oles()"
            )
        betas = self.alpha_betas
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not pair or not all(map(checks.is_fraction, betas)):
            raise ValueError(
                f"alpha_betas={checks.shown(betas)}: expected two numbers from 0 to below 1"
            )
        if self.stages and self.stopping is not None:
            raise ValueError(
                "stopping must be left out: a search in several stages cannot end early"
            )
        if self.stages and abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            shares = tuple(stage.share for stage in self.stages)
            raise ValueError(
                f"stages: their shares of the epochs are {shares}; expected a sum of 1"
            )

    def check(self, space: SearchSpace, task: Task) -> None:
        """Checks that the parts suit a space; that its supernet fits into memory, and is read.

        Every table of decisions must be read by some part of the supernet. Nothing is compiled.

        Args:
          space: as `modify` made it.
          task: what the supernet is built for.

        Raises:
          ValueError: they do not; the message names the part.
        """
        relaxation = arguments.made("relaxation", self.relaxation, 1)
        for name in ("regularizers", "weight_penalty"):
            if getattr(self, name) is not None:
                arguments.made(name, getattr(self, name), 1, space)
        for name in ("perturbation", "auxiliary_skip", "skip_dropout"):
            if getattr(self, name) is not None:
                arguments.made(name, getattr(self, name), 1)
        if self.stopping is not None:
            arguments.made("stopping", self.stopping, space)
        memory.check_weights(f"supernet of {space.name!r}", skeleton(space, task).weights)
        relax.check(relaxation, space.decisions)
        check_tables(space, task)

    def of_stage(self, stage: Stage) -> "Preset":
        """The settings of one stage."""
        return dataclasses.replace(self, stages=(), **stage.settings)

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

    def finetuning(self) -> "Preset":
        """For selections: a tenth of the learning rate (Wang et al., 2021), all along.

        The authors' program lets it fall along a cosine over all fine-tuning, and adds an epoch.
        """
        rate = self.learning_rate / 10
        return dataclasses.replace(self, learning_rate=rate, final_learning_rate=rate)

    def retraining(self) -> "Preset":
        """For short trainings from scratch: four times the learning rate.

        That makes 0.1 of 0.025, with which NAS-Bench-201 trains its architectures (Dong and Yang,
        2020).
        """
        return dataclasses.replace(self, learning_rate=4 * self.learning_rate)

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
        carry: sequences.Carry = (),
        axis_name: str | None = None,
        span: Span | None = None,
    ) -> Search:
        """Assembles the search for that many steps; see `dnas.gradient.bilevel.bilevel`.

        Args:
          space: the space to search, as `modify` made it.
          task: what the supernet is built for.
          steps_per_epoch: steps of an epoch.
          epochs: epochs of the search.
          carry: what supernets begin a sequence with; see `dnas.gradient.bilevel.bilevel`.
          axis_name: name of the axis of replicas.
          span: the part of the epochs that the search is for, where others go before or follow;
            schedules spread over all epochs, the warm-up over those of the part.
        """
        first, last = (0, epochs) if span is None else (span.first, span.last)
        steps = steps_per_epoch * epochs

        def over_steps(make, *arguments):
            return None if make is None else make(steps, *arguments)

        return bilevel(
            space,
            task,
            relaxation=self.relaxation(steps),
            hypergradient=self.hypergradient,
            weight_optimizer=self.weight_optimizer(steps),
            alpha_optimizer=self.alpha_optimizer(),
            regularizers=over_steps(self.regularizers, space) or (),
            weight_penalty=over_steps(self.weight_penalty, space),
            perturbation=over_steps(self.perturbation),
            freeze=self.freeze,
            auxiliary_skip=over_steps(self.auxiliary_skip),
            skip_dropout=over_steps(self.skip_dropout),
            warmup_steps=self._warmup_steps(first, last, steps_per_epoch),
            alpha_interval=self.alpha_interval,
            alpha_scale=self.alpha_scale,
            carry=carry,
            axis_name=axis_name,
        )

    def _warmup_steps(self, first: int, last: int, steps_per_epoch: int) -> int:
        epochs = round(self.warmup * (last - first))
        return steps_per_epoch * (first + epochs) if epochs else 0
