"""The optimizer, frozen parameters, and the learning rate of each parameter."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fer_jax.errors import UserError
from fer_jax.schemas.training import Optimizer
from fer_jax.training.state import Tree, flatten, replace_leaves


def make_optimizer(
    settings: Optimizer, steps: int, frozen: Tree, stages: Iterable[str]
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and cosine decay to zero over `steps`.

    Weight decay applies to kernels, but not to biases and BatchNorm scales. Leaves marked in
    `frozen` are not changed and have no moments.

    Args:
        settings: `learning_rate` is the peak, `warmup` a fraction of the steps, `clip` the maximum
            global norm of the gradient. `backbone_rate` is a factor for the learning rate of the
            backbone, and `layer_decay` a further factor, applied once for each stage from the
            parameter's stage to the last one (Clark et al. 2020).
        steps: the total number of training steps.
        frozen: see `frozen_mask`.
        stages: the paths of the backbone's stages from input to output.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=max(1, round(settings.warmup * steps)),
        decay_steps=max(2, steps),
    )
    adamw = optax.adamw(
        schedule, weight_decay=settings.weight_decay, mask=lambda tree: jax.tree.map(_decays, tree)
    )
    rates = rate_factors(frozen, settings.backbone_rate, settings.layer_decay, stages)
    trained = optax.chain(optax.clip_by_global_norm(settings.clip), adamw, _scale_each(rates))
    groups = jax.tree.map(lambda fixed: "frozen" if fixed else "trained", frozen)
    return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, groups)


def frozen_mask(parameters: Tree, patterns: Sequence[str]) -> Tree:
    """Whether each leaf is frozen, that is, whether a pattern matches its path.

    Paths are those of `state.flatten`, e.g. "backbone/block35/0/projection/kernel". Patterns are
    shell patterns such as "backbone/block35/*", in which `*` also matches slashes.

    Raises:
        UserError: a pattern matches no parameter.
    """
    paths = flatten(parameters)
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            raise UserError(
                f'--config.optimizer.freeze: no parameter matches "{pattern}"; paths look like '
                f"{min(paths)}"
            )
    marks = {path: any(fnmatch.fnmatch(path, pattern) for pattern in patterns) for path in paths}
    return replace_leaves(parameters, marks)


def rate_factors(
    parameters: Tree, backbone_rate: float, layer_decay: float, stages: Iterable[str]
) -> Tree:
    """The factor for the learning rate of each leaf; 1 outside the backbone."""
    order = list(stages)

    def factor(path: str) -> float:
        part, _, rest = path.partition("/")
        if part != "backbone":
            return 1.0
        below_heads = 0
        if layer_decay != 1:
            (place,) = (n for n, stage in enumerate(order) if f"{rest}/".startswith(f"{stage}/"))
            below_heads = len(order) - place
        return backbone_rate * layer_decay**below_heads

    return replace_leaves(parameters, {path: factor(path) for path in flatten(parameters)})


def _decays(leaf: jax.Array) -> bool:
    return jnp.ndim(leaf) > 1


def _scale_each(factors: Tree) -> optax.GradientTransformation:
    """A transformation that multiplies each leaf's update by its factor, except masked leaves."""

    def is_masked(leaf: Any) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    def scale(update: Any, factor: float) -> Any:
        return update if is_masked(update) else update * factor

    return optax.stateless(
        lambda updates, _: jax.tree.map(scale, updates, factors, is_leaf=is_masked)
    )
