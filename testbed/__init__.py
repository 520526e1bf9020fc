"""Watch a TrainingJob from outside, break it, and measure what happens: for the demo, the benchmarks and the tests.

    with Testbed.connect(namespace="bench") as testbed:
        job = testbed.apply(jobs.digits("digits", steps=1_000_000, log_every=1))
        testbed.wait_settled(job)
        failover = measure.failover(testbed, job, rank=0, fault=faults.KILL_TRAINER)

Nothing here asks the operator: what counts is what the API server shows to anybody and what the workers print. Every
time is the wall clock of this machine, which all nodes of the local cluster share; on a real cluster the numbers would
carry the difference of the clocks.
"""

from testbed.errors import TestbedError
from testbed.testbed import Testbed

__all__ = ["Testbed", "TestbedError"]
