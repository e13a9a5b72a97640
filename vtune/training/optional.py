"""What some networks of a chunk lack: it is computed, and trained, only where a lane has it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, PyTree

from vtune.training.dense import linear


@jax.custom_batching.custom_vmap
def any_lane(is_so: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether it is so in any lane of a chunk: the same for all of them, so that a ``lax.cond`` stays one."""
    return is_so


@any_lane.def_vmap
def _any_of_lanes(axis_size: int, in_batched: Sequence[bool], is_so: Array) -> tuple[Array, bool]:
    del axis_size
    return (is_so.any(axis=0), False) if in_batched[0] else (is_so, False)


class NetworkParts(NamedTuple):
    """The entries of a network's weights, some of which the network may lack.

    Attributes:
        names: of all of them.
        has: whether the network has it, for each that it may lack. There is one that it always has.
    """

    names: tuple[str, ...]
    has: Mapping[str, Bool[Array, ""]]

    def map(self, work: Callable[..., Any], rest: Callable[..., Any], tree: PyTree, *others: PyTree) -> PyTree:
        """Works on a tree part by part, and rests with the parts that no lane of a chunk has.

        Args:
            work: from a part of each tree to the new part of the first.
            rest: likewise.
            tree: the new one is put together of what was returned. A part of it has, in place of each dict like that
                of the weights, one entry; all else goes with every part, and is taken from one that is always there.
            others: likewise.
        """
        if not self.has:
            return work(tree, *others)
        places, structure = jax.tree.flatten(tree, is_leaf=self._are_weights)
        new = {name: structure.flatten_up_to(part) for name, part in self._each(work, rest, tree, *others).items()}
        (always, *_) = (name for name in self.names if name not in self.has)
        merged = [
            {name: new[name][place] for name in self.names} if self._are_weights(old) else new[always][place]
            for place, old in enumerate(places)
        ]
        return jax.tree.unflatten(structure, merged)

    def all(self, is_so: Callable[[PyTree], Bool[Array, ""]], tree: PyTree) -> Bool[Array, ""]:
        """Whether it is so for all parts of a tree that a lane of the chunk has."""
        if not self.has:
            return is_so(tree)
        return jnp.stack(list(self._each(is_so, lambda part: jnp.array(True), tree).values())).all()

    def _each(self, work: Callable[..., Any], rest: Callable[..., Any], *trees: PyTree) -> dict[str, Any]:
        found = {}
        for name in self.names:
            parts = [self._part(tree, name) for tree in trees]
            has_part = self.has.get(name)
            found[name] = work(*parts) if has_part is None else lax.cond(any_lane(has_part), work, rest, *parts)
        return found

    def _part(self, tree: PyTree, name: str) -> PyTree:
        return jax.tree.map(
            lambda place: place[name] if self._are_weights(place) else place, tree, is_leaf=self._are_weights
        )

    def _are_weights(self, node: Any) -> bool:
        return isinstance(node, dict) and node.keys() == set(self.names)


def optional_layer(
    activation: Callable[[Array], Array],
    kernel: Float[Array, "inputs outputs"],
    bias: Float[Array, " outputs"],
    x: Float[Array, "batch room"],
    has_layer: Bool[Array, ""],
) -> Float[Array, "batch room"]:
    """Returns what a hidden layer puts out, or ``x`` itself for a network that does not have the layer.

    Where no lane of a chunk has it, neither the layer nor its gradients are computed.

    Args:
        activation: which maps 0 to 0.
        kernel: takes the first numbers of ``x``.
        bias: of the layer.
        x: with room for what the layer puts out, which is padded to as many numbers.
        has_layer: whether this network has the layer.
    """
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return _optional((activation, precision), x, kernel, bias, has_layer)


_Kept = tuple[Array, Array, Array, Array]
"""What the way back needs: x, what the linear part put out, the kernel, and who has the layer."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _optional(how: tuple[Callable[[Array], Array], str | None], *arguments: Array) -> Array:
    return _forward(how, *arguments)[0]


def _forward(
    how: tuple[Callable[[Array], Array], str | None], x: Array, kernel: Array, bias: Array, has_layer: Array
) -> tuple[Array, _Kept]:
    (activation, precision), (inputs, outputs) = how, kernel.shape

    def run() -> tuple[Array, Array]:
        with jax.default_matmul_precision(precision):
            before = linear(x[:, :inputs], kernel, bias)
        return jnp.where(has_layer, _padded(activation(before), x.shape[1]), x), before

    def skip() -> tuple[Array, Array]:
        return x, x[:, :outputs]  # which nobody reads: the way back skips the same

    put_out, before = lax.cond(any_lane(has_layer), run, skip)
    return put_out, (x, before, kernel, has_layer)


def _backward(
    how: tuple[Callable[[Array], Array], str | None], kept: _Kept, cotangent: Array
) -> tuple[Array, Array, Array, None]:
    (activation, precision), (x, before, kernel, has_layer) = how, kept
    inputs, outputs = kernel.shape

    def run() -> tuple[Array, Array, Array]:
        (slope,) = jax.vjp(activation, before)[1](cotangent[:, :outputs])
        slope = jnp.where(has_layer, slope, 0)
        with jax.default_matmul_precision(precision):
            _, backward = jax.vjp(linear, x[:, :inputs], kernel, jnp.zeros(outputs, kernel.dtype))
            of_x, of_kernel, of_bias = backward(slope)
        return jnp.where(has_layer, _padded(of_x, x.shape[1]), cotangent), of_kernel, of_bias

    def skip() -> tuple[Array, Array, Array]:
        return cotangent, jnp.zeros_like(kernel), jnp.zeros(outputs, kernel.dtype)

    return *lax.cond(any_lane(has_layer), run, skip), None


_optional.defvjp(_forward, _backward)


def _padded(rows: Float[Array, "batch some"], columns: int) -> Float[Array, "batch columns"]:
    return jnp.pad(rows, ((0, 0), (0, columns - rows.shape[1])))
