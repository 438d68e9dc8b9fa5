"""A search's settings in one place, and the search that they make."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from dnas import arithmetic, capabilities, checks, sequences
from dnas.gradient import hypergrad, optimizers, relax
from dnas.gradient.alignment import WeightPenalty
from dnas.gradient.bilevel import Search, bilevel
from dnas.gradient.fit import check_single_path, check_tables
from dnas.gradient.freeze import Freeze
from dnas.gradient.hypergrad import Hypergradient, first_order
from dnas.gradient.perturb import Perturbation
from dnas.gradient.regularize import Regularizer
from dnas.gradient.relax import Relaxation
from dnas.gradient.skeleton import skeleton
from dnas.gradient.stopping import Stopping
from dnas.parts import Part, made, part
from dnas.presets import kinds
from dnas.presets.kinds import KINDS
from dnas.presets.parts import Modify
from dnas.presets.stages import Span, Stage
from dnas.runtime import memory
from dnas.schedules import as_schedule
from dnas.selection import Selection
from dnas.space import SearchSpace
from dnas.tasks.task import Task

# Attributes of a preset that hold parts, and those that hold numbers or schedules.
PARTS = tuple(KINDS)
SCHEDULES = ("auxiliary_skip", "skip_dropout")


@dataclasses.dataclass(frozen=True, repr=False)
class Preset:
    """The settings of a bilevel search; the defaults are those of DARTS (Liu et al., 2019).

    A part is what the search uses, such as ``dnas.gradient.relax.sparsemax()``; or a
    `dnas.parts.Part`, which makes that when steps, space and task are known. Presets of the package
    hold the latter, so that they are plain data: comparable, hashable, printable. Parts that are
    None are left out. See `dnas.gradient.bilevel.bilevel` for what the parts are.

    Attributes:
      relaxation: makes mixing weights of alphas.
      hypergradient: estimates the gradient in alphas.
      modify: makes of the user's space the one to search, with another mixing for instance.
      regularizers: of alphas.
      weight_penalty: in the gradient of the weights.
      perturbation: of the mix at which weights train.
      freeze: ends the training of single operations.
      auxiliary_skip: weight of the auxiliary skip connections, a number or a schedule.
      skip_dropout: dropout behind skip connections, a number or a schedule.
      stopping: may end the search early.
      selection: chooses the architecture at the end; the space's own rule by default.
      stages: parts of the search with supernets of their own; a single one by default.
      epochs: passes over the weights' half of the training examples.
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
      dtype: of the supernet's forward and backward pass, ``'float32'``, ``'tf32'`` or
        ``'bfloat16'``; see `dnas.arithmetic`.
    """

    relaxation: Part | Relaxation = part(relax.softmax)
    hypergradient: Part | Hypergradient = part(first_order)
    modify: Part | Modify | None = None
    regularizers: tuple[Part | Regularizer, ...] = ()
    weight_penalty: Part | WeightPenalty | None = None
    perturbation: Part | Perturbation | None = None
    freeze: Part | Freeze | None = None
    auxiliary_skip: Part | optax.ScalarOrSchedule | None = None
    skip_dropout: Part | optax.ScalarOrSchedule | None = None
    stopping: Part | Stopping | None = None
    selection: Part | Selection | None = None
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
    dtype: str = "float32"

    def __post_init__(self):
        for name in ("regularizers", "alpha_betas", "stages"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_numbers()
        self._check_dtype()
        if not isinstance(self.regularizers, tuple):
            raise ValueError(
                f"regularizers={checks.shown(self.regularizers)}: expected a tuple, as "
                f"regularizers={KINDS['regularizers'].own}"
            )
        for name in PARTS:
            value = getattr(self, name)
            for one in value if name == "regularizers" else (value,):
                if one is not None or not KINDS[name].optional:
                    kinds.check(name, one)
        if self.stages and self.stopping is not None:
            raise ValueError(
                "stopping must be left out: a search in several stages cannot end early"
            )
        if self.stages and abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            shares = tuple(stage.share for stage in self.stages)
            raise ValueError(
                f"stages: their shares of the epochs are {shares}; expected a sum of 1"
            )

    def _check_numbers(self) -> None:
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
        betas = self.alpha_betas
        if (
            not isinstance(betas, tuple)
            or len(betas) != 2
            or not all(map(checks.is_fraction, betas))
        ):
            raise ValueError(
                f"alpha_betas={checks.shown(betas)}: expected two numbers from 0 to below 1"
            )

    def _check_dtype(self) -> None:
        arithmetic.check(self.dtype)
        estimate = self.hypergradient
        differences = isinstance(estimate, Part) and estimate.factory is hypergrad.finite_difference
        if differences and self.dtype == "bfloat16":
            raise ValueError(
                "dtype='bfloat16': expected 'float32' or 'tf32' with finite_difference, whose steps"
                " in the weights are smaller than what bfloat16 resolves; or take unrolled"
            )

    def __repr__(self) -> str:
        """What differs from the defaults."""
        fields = [(f.name, f.default, getattr(self, f.name)) for f in dataclasses.fields(self)]
        changed = [f"{name}={value!r}" for name, default, value in fields if value != default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def made(self, name: str, **context: Any) -> Any:
        """One of the parts, ready for use; None where it is left out.

        Args:
          name: of the attribute; several parts are made for `regularizers`.
          **context: `total_steps`, `space` and `task` of the search, as far as the part needs them.

        Raises:
          ValueError: a setting of the part is out of range, or it makes something else.
        """
        value = getattr(self, name)
        if name == "regularizers":
            return tuple(_made(name, one, context) for one in value)
        return None if value is None else _made(name, value, context)

    def modified(self, space: SearchSpace) -> SearchSpace:
        """The space to search, where the user's is this one."""
        modify = self.made("modify", space=space)
        return space if modify is None else modify(space)

    def check(self, space: SearchSpace, task: Task) -> None:
        """Checks that the parts suit a space; that its supernet fits into memory, and is read.

        Every table of decisions must be read by some part of the supernet. Nothing is compiled.

        Args:
          space: as `modified` made it.
          task: what the supernet is built for.

        Raises:
          ValueError: they do not; the message names the part.
        """
        context = {"total_steps": 1, "space": space, "task": task}
        ready = {name: self.made(name, **context) for name in (*PARTS, *SCHEDULES)}
        memory.check_weights(f"supernet of {space.name!r}", skeleton(space, task).weights)
        relax.check(ready["relaxation"], space.decisions)
        check_tables(space, task)
        mixing = capabilities.mixing_of(space)
        if mixing is not None and mixing.single_path:
            check_single_path(space, ready["relaxation"], ready["perturbation"])

    def of_stage(self, stage: Stage) -> "Preset":
        """The settings of one stage."""
        return dataclasses.replace(self, stages=(), **dict(stage.settings))

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
          space: the space to search, as `modified` made it.
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

        context = {"total_steps": steps, "space": space, "task": task}

        def made(name: str) -> Any:
            return self.made(name, **context)

        return bilevel(
            space,
            task,
            relaxation=made("relaxation"),
            hypergradient=made("hypergradient"),
            weight_optimizer=self.weight_optimizer(steps),
            alpha_optimizer=self.alpha_optimizer(),
            regularizers=made("regularizers"),
            weight_penalty=made("weight_penalty"),
            perturbation=made("perturbation"),
            freeze=made("freeze"),
            auxiliary_skip=made("auxiliary_skip"),
            skip_dropout=made("skip_dropout"),
            warmup_steps=self._warmup_steps(first, last, steps_per_epoch),
            alpha_interval=self.alpha_interval,
            alpha_scale=self.alpha_scale,
            carry=carry,
            dtype=self.dtype,
            axis_name=axis_name,
        )

    def _warmup_steps(self, first: int, last: int, steps_per_epoch: int) -> int:
        epochs = round(self.warmup * (last - first))
        return steps_per_epoch * (first + epochs) if epochs else 0


def _made(name: str, value: Any, context: Mapping[str, Any]) -> Any:
    with checks.naming(name):
        ready = made(value, **context)
    if name in SCHEDULES:
        return as_schedule(name, ready)
    if isinstance(value, Part):
        kinds.check_made(name, ready)
    return ready


def preset(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> Preset:
    """A preset with these attributes, of which the user changed some."""
    checks.names("a preset", changes, [field.name for field in dataclasses.fields(Preset)])
    return Preset(**{**defaults, **changes})
