"""The optimizer that a config describes."""

from __future__ import annotations

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from fer_jax.training.state import Tree


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and a cosine to zero over `steps`.

    Fields of `config`: `learning_rate`, the peak; `warmup`, a fraction of the steps;
    `weight_decay`, on kernels only, never on biases or BatchNorm; `clip`, the largest global
    norm of a gradient; `backbone_rate`, a factor on the backbone's learning rate (0 freezes it).
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=max(1, round(config.warmup * steps)),
        decay_steps=max(2, steps),
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule, weight_decay=config.weight_decay, mask=_is_kernel),
        optax.masked(optax.scale(config.backbone_rate), _is_backbone),
    )


def _is_kernel(parameters: Tree) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)


def _is_backbone(parameters: Tree) -> Any:
    return {
        part: jax.tree.map(lambda _, inside=part == "backbone": inside, tree)
        for part, tree in parameters.items()
    }
