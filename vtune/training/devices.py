"""Which devices a study trains on. What depends on the kind of a device is decided here, or by what is told here."""

import os
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from platform import machine
from typing import Any, NamedTuple, TypeAlias

import jax

from vtune.notices import warn_user

Device: TypeAlias = Any
"""A ``jax.Device``, which type checkers take for a variable."""

CPU_DEVICES_VARIABLE = "VTUNE_CPU_DEVICES"
"""Environment variable that sets the number of CPU devices; by default one a core."""

_ASSUMED_MEMORY = 8 << 30
"""Bytes of an accelerator that does not tell how many it has."""

_DRIVERS = {"an NVIDIA GPU": "/proc/driver/nvidia/version", "an AMD GPU": "/dev/kfd", "a TPU": "/dev/accel0"}
"""Files that are there where such a device is, whatever JAX was installed with."""


_CPU_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_copy_insertion_use_region_analysis": True}
"""What XLA is told, by the names of its flags."""

_CPU_FACTS = Path("/proc/cpuinfo")


class DeviceKind(NamedTuple):
    """What a ladder may know of a device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        name: the model, as its driver calls it.
        memory_bytes: what an accelerator may allocate; 0 for a CPU, whose limit is the cache.
        cores: multiprocessors of a GPU; 0 for others.
    """

    platform: str
    name: str
    memory_bytes: int = 0
    cores: int = 0

    @property
    def is_accelerator(self) -> bool:
        """Whether it gains from hundreds of lanes: anything but a CPU."""
        return self.platform != "cpu"


def kind_of(device: Device) -> DeviceKind:
    """Describes a device to the ladder."""
    platform = "gpu" if device.platform in ("cuda", "rocm") else str(device.platform)
    if platform == "cpu":
        return DeviceKind(platform, device.device_kind)
    limit = (device.memory_stats() or {}).get("bytes_limit", _ASSUMED_MEMORY)
    cores = getattr(device, "core_count", 0) if platform == "gpu" else 0
    return DeviceKind(platform, device.device_kind, int(limit), int(cores))


def compiler_options(kind: DeviceKind) -> dict[str, Any]:
    """Returns what to tell XLA, where the user does not by ``XLA_FLAGS``. There is something to tell for CPUs alone.

    LLVM's level of optimization: 1 compiles a rung's program in an eighth less time, and its code is as fast. And to
    look closely at which arrays are still read: else moments are stepped into other arrays, and copied back into their
    own. ``benchmarks/chunks.py`` prints what is gained by each.
    """
    told = os.environ.get("XLA_FLAGS", "")
    return {} if kind.is_accelerator else {name: value for name, value in _CPU_OPTIONS.items() if name not in told}


def is_cpu_default() -> bool:
    """Whether JAX computes on a CPU what it is not told another device for."""
    return jax.default_backend() == "cpu"


def lowering_target(device: Device) -> str | None:
    """Returns the device as ``jax.export`` names it, one maker's GPUs by another name; None if it is none of these."""
    told = f"{device.platform} {device.client.platform_version}".lower()
    named = {"cpu": "cpu", "tpu": "tpu", "cuda": "cuda", "rocm": "rocm"}
    if device.platform in named:
        return named[device.platform]
    return next((name for name in ("cuda", "rocm") if name in told), None)


def machine_of(kind: DeviceKind) -> str:
    """Returns what machine this is, in words: of a CPU, whose kind has no name, the processor and its cores."""
    if kind.is_accelerator:
        return kind.name
    lines = _CPU_FACTS.read_text(encoding="utf-8").splitlines() if _CPU_FACTS.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else machine()}, {num_cores()} cores"


def own(devices: Sequence[Device]) -> Device:
    """Returns the first of the devices that belongs to this process: drivers tell of their own devices alone."""
    return next(device for device in devices if device.process_index == jax.process_index())


def describe(devices: Sequence[Device]) -> str:
    """Returns what the devices are, in words."""
    return f"{len(devices)} {kind_of(own(devices)).platform} device{'s' if len(devices) > 1 else ''}"


def device_bytes(device: Device) -> int:
    """Returns the bytes that one device may take: its own memory, or its share of the host's."""
    kind = kind_of(device)
    if kind.is_accelerator:
        return kind.memory_bytes
    return host_bytes() // len(jax.local_devices())


def host_bytes() -> int:
    """Returns the bytes of this machine's own memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def worker_devices(devices: Sequence[Device]) -> list[Device]:
    """Returns the device of every worker: as many chunks are trained at the same time.

    An accelerator is one worker's own. On a CPU all workers share the first device: the threads of a process run one
    executable side by side, so a program is compiled once for all cores. A CPU that is one device has a worker a core.
    """
    if any(kind_of(device).is_accelerator for device in devices):
        return list(devices)
    is_undivided = len(jax.local_devices()) == 1
    return [devices[0]] * (num_cores() if is_undivided else len(devices))


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_devices(devices: int | Sequence[Device] | None = None) -> list[Device]:
    """Returns the devices of this process to train on.

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
    _warn_of_unused_accelerator(local)
    if devices is not None and devices > len(local):
        raise ValueError(
            f"devices={devices}: there are only {len(local)} here, and their number is fixed once JAX has started. "
            f"Write devices={len(local)}, or set {CPU_DEVICES_VARIABLE}={devices} before JAX starts."
        )
    return local[:devices]


def queue_devices(devices: int | Sequence[Device] | None = None) -> list[Device]:
    """Returns the devices of this process, which must be the only one.

    Args:
        devices: as for ``local_devices``.

    Raises:
        TypeError: for anything else.
        ValueError: for no device, more than there are, and where JAX is distributed over several processes.
    """
    local = local_devices(devices)
    if jax.process_count() > 1:
        raise ValueError(
            f"executor='queue': JAX runs in {jax.process_count()} processes, and each would train all trials by "
            "itself. Write executor='mesh', which shares them."
        )
    return local


def mesh_devices(devices: int | Sequence[Device] | None = None) -> list[Device]:
    """Returns the devices of all processes to train on in lockstep.

    Args:
        devices: as for ``local_devices``; None for all that there are, those of other processes included.

    Raises:
        TypeError: for anything else.
        ValueError: for no device, more than there are, or some processes' devices alone.
    """
    local = local_devices(devices)
    if devices is None:
        return list(jax.devices())
    if jax.process_count() > 1 and len({device.process_index for device in local}) < jax.process_count():
        raise ValueError(
            f"devices={devices!r}: JAX runs in {jax.process_count()} processes, and all of them must train. Leave "
            "devices out."
        )
    return local


def _check_types(devices: Any) -> None:
    is_listed = isinstance(devices, Sequence) and all(isinstance(device, jax.Device) for device in devices)
    is_count = isinstance(devices, int) and not isinstance(devices, bool)
    if not (devices is None or is_listed or is_count):
        raise TypeError(
            f"devices={devices!r} is neither a number nor a list of JAX devices. Write devices=1, or "
            "devices=jax.local_devices()[:1], or leave it out for all of them."
        )


def _split_cpu(devices: int | None) -> None:
    """Asks for one CPU device a core, where no accelerator may exist and the backend has not started."""
    if _may_have_accelerator() or _is_cpu_split_already():
        return
    try:
        wanted = os.environ.get(CPU_DEVICES_VARIABLE) or max(num_cores(), devices or 1)
        jax.config.update("jax_num_cpu_devices", int(wanted))
    except RuntimeError:  # the backend has started: it keeps its devices
        return


def _is_cpu_split_already() -> bool:
    """Whether the user has said how many CPU devices there are to be, in one of the two ways that JAX knows."""
    is_set = jax.config.jax_num_cpu_devices != -1  # pyright: ignore[reportAttributeAccessIssue]
    return is_set or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def _may_have_accelerator() -> bool:
    """Whether a backend other than the CPU's is installed and allowed; asking JAX itself would start the backend."""
    if _is_cpu_wanted():
        return False
    return bool(entry_points(group="jax_plugins")) or any(map(find_spec, ("jax_plugins", "libtpu")))


def _is_cpu_wanted() -> bool:
    """Whether JAX was told to use the CPU, as by JAX_PLATFORMS=cpu."""
    allowed = (jax.config.jax_platforms or "").split(",")  # pyright: ignore[reportAttributeAccessIssue]
    return "cpu" in allowed[:1]


def _warn_of_unused_accelerator(local: Sequence[Device]) -> None:
    present = [name for name, file in _DRIVERS.items() if Path(file).exists()]
    if present and not _is_cpu_wanted() and not kind_of(local[0]).is_accelerator:
        warn_user(
            f"there is {present[0]} here, but this JAX trains on the CPU. Install the JAX that goes with it, as "
            "https://docs.jax.dev/en/latest/installation.html tells, or set JAX_PLATFORMS=cpu if the CPU is meant.",
        )
