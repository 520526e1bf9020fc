"""How many threads the trainer's libraries may use. Pure.

TensorFlow refuses to change its thread counts once a model is built, and results depend on them bit for bit: so they
are set before the trainer starts, from what the pod may use rather than from what the node has.
"""

import math
from collections.abc import Mapping

from understudy_contract.lease import natural
from understudy_contract.names import Env

VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def thread_variables(environ: Mapping[str, str], visible_cores: int, quota_m: int | None = None) -> dict[str, str]:
    """Give the variables to add: none that the pod's template sets itself.

    The limit is the smaller of the two that are known: the environment's, which is the pod's as it was admitted, and
    `quota_m`, the cgroup's, in thousandths of a core. Without a limit the visible cores count.
    """
    limits_m = [limit for limit in (natural(environ.get(Env.CPU_LIMIT_M)), quota_m) if limit]
    threads = math.ceil(min(limits_m) / 1000) if limits_m else max(1, visible_cores)
    return {name: str(threads) for name in VARIABLES if name not in environ}
