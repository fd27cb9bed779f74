"""Run the checks on 8 devices: `python -m tests.sharding.eight_devices`.

It prints, as JSON, the error of each check that failed.
"""

import json
import traceback

import jax

from tests import compilation
from tests.sharding import following, zero

CHECKS = {check.__name__: check for check in (*following.CHECKS, *zero.CHECKS)}


def main():
    failures = {}
    for name, check in CHECKS.items():
        try:
            check()
        except Exception:
            failures[name] = traceback.format_exc()
    print(json.dumps(failures))


if __name__ == "__main__":
    compilation.configure()
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # The programs are large and run a few times on small arrays.
    jax.config.update("jax_disable_most_optimizations", True)
    main()
