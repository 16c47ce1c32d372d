"""Grad-CAM: the regions of an image that support a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt8

from fer_jax.backend import compiler_options
from fer_jax.models.keys import structure
from fer_jax.models.network import Network
from fer_jax.padding import in_batches
from fer_jax.schemas.training import Backbone
from fer_jax.training.state import for_use, merge_network, split_network

_BATCH = 32
_MIN_SIDE = 7  # pixels; coarser maps are not informative


class GradCam:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of a backbone with a linear head.

    It uses the output of the deepest stage that has at least 7 pixels per side, or the preprocessed
    image if no stage has. Each channel is weighted by the mean over pixels of the gradient of the
    class's logit. Negative values of the weighted sum are set to 0.

    Args:
        backbone: the settings of the backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        network = structure(lambda rngs: Network(backbone, {}, rngs=rngs))
        self._graphdef = split_network(network)[0]
        self._compiled = jax.jit(self._maps, compiler_options=compiler_options())

    def __call__(
        self,
        state: Mapping[str, Any],
        kernel: Float[np.ndarray, "f c"],
        images: UInt8[np.ndarray, "n s s 3"],
        classes: Int[np.ndarray, " n"],
    ) -> Float32[np.ndarray, "n h w"]:
        """One map for each image and its class, with the resolution of the stage, in 0..1.

        Each map is divided by its maximum; a map without positive values is 0.

        Args:
            state: contains the backbone's `parameters` and `statistics`; the running average is
                used if there is one, as in prediction.
            kernel: the kernel of the linear head.
            images: RGB, of the size on which the network was trained.
            classes: the class to explain for each image.
        """
        own = {part: {"backbone": tree["backbone"]} for part, tree in for_use(dict(state)).items()}
        weights = np.asarray(kernel, np.float32).T[classes]
        maps: np.ndarray = in_batches(
            lambda *part: self._compiled(own, *part), weights, images, size=lambda left: _BATCH
        )
        return maps

    def _maps(
        self, state: Any, weights: Float[Array, "b f"], images: Array
    ) -> Float[Array, "b h w"]:
        network = merge_network(self._graphdef, state["parameters"], state["statistics"])
        layers = [layer for _, layer in network.backbone.stages()]
        outputs = [network.preprocess(images)]
        for layer in layers:
            outputs.append(layer(outputs[-1], train=False))
        wide = [n for n, output in enumerate(outputs) if min(output.shape[1:3]) >= _MIN_SIDE]
        place = max(wide) if wide else 0

        def logits(maps: Array) -> Array:
            for layer in layers[place:]:
                maps = layer(maps, train=False)
            return (maps.mean((1, 2)) * weights).sum()

        maps = outputs[place]
        importance = jax.grad(logits)(maps).mean((1, 2), keepdims=True)
        heat = jax.nn.relu((importance * maps).sum(-1))
        return heat / jnp.maximum(heat.max((1, 2), keepdims=True), 1e-12)
