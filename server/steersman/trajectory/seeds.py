"""Seeds of trajectories that are drawn beside others."""

import hashlib


def derived(seed: int | None, *of: int) -> int | None:
    """A seed that depends on another one and on some numbers, and looks like neither.

    Args:
        seed: The other seed; None where nothing is seeded.
        of: The numbers.

    Returns:
        A number of 63 bits, which all of vLLM's samplers take; None without a seed.

    """
    if seed is None:
        return None
    digest = hashlib.blake2b(" ".join(map(str, (seed, *of))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
