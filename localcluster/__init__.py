"""A real Kubernetes on this machine, and real faults in it, for tests, the demo and benchmarks.

    from localcluster import choice

    cluster = choice.up()               # or choice.connect() to one that runs
    cluster.node("node-1").power_cut()

`python -m localcluster up|down|images|status|load` does the same from a shell. The nodes are namespaces of this
machine, the programs are the real ones. It is a cluster to break: nothing in it is kept safe, and none of it
reaches outside the machine.
"""

from localcluster.cluster import Cluster, Node
from localcluster.pods import Process
from localcluster.shell import ClusterError

__all__ = ["Cluster", "ClusterError", "Node", "Process"]
