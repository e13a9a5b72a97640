"""Which devices a study trains on. All that depends on the kind of device is decided from what this module says."""

import os
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import jax

Device: TypeAlias = Any
"""A ``jax.Device``, which type checkers take for a variable."""

CPU_DEVICES_VARIABLE = "VTUNE_CPU_DEVICES"
"""Environment variable that sets the number of CPU devices; by default one a core."""

_ASSUMED_MEMORY = 8 << 30
"""Bytes of an accelerator that does not tell how many it has."""


class DeviceKind(NamedTuple):
    """What a ladder may know of a device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        name: the model, as its driver calls it.
        memory_bytes: what an accelerator may allocate; 0 for a CPU, whose limit is the cache.
    """

    platform: str
    name: str
    memory_bytes: int = 0


def local_devices(devices: int | Sequence[Device] | None = None) -> list[Device]:
    """Returns the devices to train on.

    A CPU is split into one device a core, unless the backend has already started: then it stays as it is.

    Args:
        devices: the devices themselves, how many of the local ones to use, or None for all of them.

    Raises:
        TypeError: for anything else.
        ValueError: for no device, or more than there are.
    """
    _check_types(devices)
    if isinstance(devices, Sequence):
        if not devices:
            raise ValueError("devices=[]: a search needs a device. Write devices=jax.local_devices(), or leave it out.")
        return list(devices)
    if devices is not None and devices < 1:
        raise ValueError(f"devices={devices}: a search needs at least one device. Write devices=1, or leave it out.")
    _split_cpu(devices)
    local = jax.local_devices()
    if devices is not None and devices > len(local):
        raise ValueError(
            f"devices={devices}: there are only {len(local)} here, and their number is fixed once JAX has started. "
            f"Write devices={len(local)}, or set {CPU_DEVICES_VARIABLE}={devices} before JAX starts."
        )
    return local[:devices]


def _check_types(devices: Any) -> None:
    is_listed = isinstance(devices, Sequence) and all(isinstance(device, jax.Device) for device in devices)
    is_count = isinstance(devices, int) and not isinstance(devices, bool)
    if not (devices is None or is_listed or is_count):
        raise TypeError(
            f"devices={devices!r} is neither a number nor a list of JAX devices. Write devices=1, or "
            "devices=jax.local_devices()[:1], or leave it out for all of them."
        )


def kind_of(device: Device) -> DeviceKind:
    """Describes a device to the ladder."""
    platform = "gpu" if device.platform in ("cuda", "rocm") else str(device.platform)
    if platform == "cpu":
        return DeviceKind(platform, device.device_kind)
    limit = (device.memory_stats() or {}).get("bytes_limit", _ASSUMED_MEMORY)
    return DeviceKind(platform, device.device_kind, int(limit))


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _split_cpu(devices: int | None) -> None:
    """Asks for one CPU device a core, where no accelerator may exist and the backend has not started."""
    if _may_have_accelerator() or jax.config.jax_num_cpu_devices > 1:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        wanted = os.environ.get(CPU_DEVICES_VARIABLE) or max(num_cores(), devices or 1)
        jax.config.update("jax_num_cpu_devices", int(wanted))
    except RuntimeError:  # the backend has started: it keeps its devices
        return


def _may_have_accelerator() -> bool:
    """Whether a backend other than the CPU's is installed and allowed; asking JAX itself would start the backend."""
    allowed = (jax.config.jax_platforms or "").split(",")  # pyright: ignore[reportAttributeAccessIssue]
    if "cpu" in allowed[:1]:
        return False
    return bool(entry_points(group="jax_plugins")) or any(map(find_spec, ("jax_plugins", "libtpu")))
