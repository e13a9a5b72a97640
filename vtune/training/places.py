"""Where a program runs: on one device, or in lockstep on a mesh of several, perhaps of several hosts.

The lanes of a chunk lie along a mesh axis named ``trials``, which is what pmap's axis was; all else is the same on
every device. No device hears of another while a program runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jaxtyping import PyTree

from vtune.training.devices import Device, DeviceKind, kind_of, lowering_target, own
from vtune.training.engine import ChunkInputs

_LANES, _WHOLE = PartitionSpec("trials"), PartitionSpec()

_OF_LANES = ("hparams", "is_active")
_INPUTS = ChunkInputs(**{name: _LANES if name in _OF_LANES else _WHOLE for name in ChunkInputs._fields})  # pyright: ignore

_ARGUMENTS = (_LANES, _INPUTS, _WHOLE, _WHOLE)
"""How the arguments of ``Engine.advance`` lie on a mesh: states, inputs, first epoch, number of epochs."""


@dataclass(frozen=True)
class OneDevice:
    """A device by itself."""

    device: Device
    parts: ClassVar[int] = 1
    is_within_process: ClassVar[bool] = True

    @property
    def kind(self) -> DeviceKind:
        """What device it is."""
        return kind_of(self.device)

    @property
    def target(self) -> str | None:
        """What programs are lowered for to run there."""
        return lowering_target(self.device)

    def spread(self, advance: Callable[..., Any]) -> None:
        """Returns None: the function runs as it is, so all devices share what was traced."""

    def abstract(self, arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        """Returns the shapes as they are, on this device."""
        return jax.tree.map(lambda leaf: _abstract(leaf, leaf.shape, SingleDeviceSharding(self.device)), arguments)

    def put(self, tree: PyTree) -> PyTree:
        """Puts arrays on the device."""
        return jax.device_put(tree, self.device)

    def put_lanes(self, tree: PyTree) -> PyTree:
        """Puts arrays on the device."""
        return jax.device_put(tree, self.device)

    def hand_in(self, tree: PyTree) -> PyTree:
        """Returns arrays of the host as they are: every call that takes them brings them there itself."""
        return tree

    hand_in_lanes = hand_in

    def fetch(self, array: jax.Array) -> np.ndarray:
        """Returns the array on the host."""
        return np.asarray(array)


@dataclass(frozen=True)
class DeviceMesh:
    """Several devices in lockstep, each with its own lanes of the same chunk."""

    devices: tuple[Device, ...]
    target: ClassVar[None] = None

    @property
    def parts(self) -> int:
        """How many devices there are."""
        return len(self.devices)

    @property
    def kind(self) -> DeviceKind:
        """What devices they are, as the first one of this process has it."""
        return kind_of(own(self.devices))

    @property
    def is_within_process(self) -> bool:
        """Whether all of them belong to this process."""
        return all(device.process_index == jax.process_index() for device in self.devices)

    @cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices along one axis, ``trials``."""
        return jax.sharding.Mesh(np.array(self.devices), ("trials",), axis_types=(AxisType.Auto,))

    def spread(self, advance: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function under ``shard_map``."""
        # Lanes are made out of what is whole, so which value varies over the mesh is not what check_vma expects.
        return jax.shard_map(advance, mesh=self.mesh, in_specs=_ARGUMENTS, out_specs=_LANES, check_vma=False)

    def abstract(self, arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        """Returns the shapes with as many lanes as all devices have together."""

        def placed(spec: PartitionSpec, tree: PyTree) -> PyTree:
            factor = self.parts if spec == _LANES else 1
            sharding = NamedSharding(self.mesh, spec)
            return jax.tree.map(lambda leaf: _abstract(leaf, _widened(leaf.shape, factor), sharding), tree)

        return jax.tree.map(placed, _ARGUMENTS, arguments, is_leaf=lambda node: isinstance(node, PartitionSpec))

    def put(self, tree: PyTree) -> PyTree:
        """Puts arrays, whole, on every device."""
        return self._put(tree, NamedSharding(self.mesh, _WHOLE))

    def put_lanes(self, tree: PyTree) -> PyTree:
        """Puts on every device its own part."""
        return self._put(tree, NamedSharding(self.mesh, _LANES))

    hand_in, hand_in_lanes = put, put_lanes

    def fetch(self, array: jax.Array) -> np.ndarray:
        """Returns the array with the lanes of all devices, of other hosts too."""
        if self.is_within_process:
            return np.asarray(array)
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))

    def _put(self, tree: PyTree, sharding: NamedSharding) -> PyTree:
        def put(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

        return jax.tree.map(put, tree)


Place: TypeAlias = OneDevice | DeviceMesh
"""Where a program runs. Hashable: it tells the compilations of a program apart.

``parts`` devices share a chunk, with a rung's lanes each; ``spread`` makes ``Engine.advance`` run on several, and
``abstract`` tells the sizes of its arguments and where they lie. ``put`` and ``put_lanes`` bring arrays of the host
there, whole to every device or to each its own lanes; ``hand_in`` and ``hand_in_lanes`` leave small ones, where they
can, to the few calls that train a chunk. ``fetch`` returns what has a lane an entry to every host.
``target`` names what programs are lowered for that an earlier process may have traced; None for a mesh, which traces
its own.
"""


def _widened(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    return (shape[0] * factor, *shape[1:]) if factor > 1 else shape


def _abstract(leaf: Any, shape: tuple[int, ...], sharding: Sharding) -> Any:
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)
