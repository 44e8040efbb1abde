"""One seed per rollout, and the uniform numbers it stands for."""

import hashlib

import numpy as np
from jaxtyping import Float64


def rollout_seed(run_seed: int, question_id: str, rollout_id: int) -> int:
    """A 63-bit seed that no other rollout of the run shares (but for the odds of a hash collision)."""
    key = f"{run_seed}\x1f{rollout_id}\x1f{question_id}".encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def uniforms(seed: int, count: int) -> Float64[np.ndarray, " count"]:
    """Numbers in [0, 1) of a counter-based generator keyed by `seed`; number t never depends on `count`."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)
