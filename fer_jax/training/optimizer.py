"""The optimizer that a config describes, and which parameters it may change."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from fer_jax.errors import UserError
from fer_jax.training.state import Tree, flatten, replace_leaves


def make_optimizer(config: ConfigDict, steps: int, frozen: Tree) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and a cosine to zero over `steps`.

    Fields of `config`: `learning_rate`, the peak; `warmup`, a fraction of the steps;
    `weight_decay`, on kernels only, never on biases or BatchNorm; `clip`, the largest global
    norm of a gradient; `backbone_rate`, a factor on the backbone's learning rate; `layer_decay`,
    one more factor for every block that lies between a parameter and the heads (Clark et al.
    2020). Leaves marked in `frozen` (see `frozen_mask`) stay as they are and have no moments.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=max(1, round(config.warmup * steps)),
        decay_steps=max(2, steps),
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule, weight_decay=config.weight_decay, mask=_is_kernel),
        optax.stateless(
            lambda updates, _: jax.tree.map(
                lambda update, factor: update * factor,
                updates,
                rate_factors(updates, config.backbone_rate, config.layer_decay),
            )
        ),
    )
    if not any(jax.tree.leaves(frozen)):
        return optimizer
    return optax.transforms.selective_transform(optimizer, freeze_mask=frozen)


def frozen_mask(parameters: Tree, patterns: Sequence[str]) -> Tree:
    """True for every leaf whose path a pattern matches, e.g. "backbone/block35/*".

    A pattern is of the shell's kind: `*` stands for any characters, slashes too.

    Raises:
        UserError: a pattern matches no parameter.
    """
    paths = flatten(parameters)
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            raise UserError(
                f'config.optimizer.freeze: no parameter matches "{pattern}"; paths look like '
                f"{min(paths)}"
            )
    marks = {path: any(fnmatch.fnmatch(path, p) for p in patterns) for path in paths}
    return replace_leaves(parameters, marks)


def rate_factors(parameters: Tree, backbone_rate: float, layer_decay: float) -> Tree:
    """What each leaf's learning rate is multiplied with; 1 for the heads."""
    blocks = _blocks(parameters["backbone"]) if layer_decay != 1 else []

    def factor(path: tuple[Any, ...], _: Any) -> float:
        part, *rest = (str(entry.key) for entry in path)
        if part != "backbone":
            return 1.0
        if layer_decay == 1:
            return backbone_rate
        below_heads = len(blocks) - blocks.index(_block("/".join(rest)))
        return float(backbone_rate * layer_decay**below_heads)

    return jax.tree_util.tree_map_with_path(factor, parameters)


_ORDER = ("stem", "mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b")


def _blocks(backbone: Tree) -> list[str]:
    """The blocks from input to output: "stem", "mixed_5b", "block35/0", ..."""
    named = {_block(path) for path in flatten(backbone)}

    def place(block: str) -> tuple[int, int]:
        name, _, number = block.partition("/")
        return _ORDER.index(name), int(number or 0)

    return sorted(named, key=place)


def _block(path: str) -> str:
    matched = re.match(r"block\d+/\d+|[^/]+", path)
    assert matched
    return matched[0]


def _is_kernel(parameters: Tree) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
