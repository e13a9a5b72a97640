"""Which versions of JAX are not to be trusted."""

import jax

BROKEN = {
    "0.10.2": "its CPU compiler returns wrong numbers for a vmapped matrix-vector product (jax#39103)",
    "0.11.0": "it crashes (jax#39257)",
}
"""What pip keeps away from, but a notebook server or another package may have brought all the same."""


def refuse_broken_jax(version: str = jax.__version__) -> None:
    """Refuses a JAX that would train wrong networks.

    Args:
        version: of JAX.

    Raises:
        ImportError: for one that is known to be broken.

    Example:
        >>> refuse_broken_jax("0.10.1")
    """
    if version in BROKEN:
        raise ImportError(
            f"jax {version} cannot be trusted with a search: {BROKEN[version]}. Use another version, 0.7.2 or newer, "
            f"but none of {', '.join(BROKEN)}."
        )
