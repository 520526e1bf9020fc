"""The local cluster's command line."""

from __future__ import annotations

import argparse
import sys

from localcluster.cluster import NODES, Cluster
from localcluster.shell import ClusterError, say


def up(arguments: argparse.Namespace) -> None:
    """make the cluster, or repair the one that runs"""  # noqa: D403
    cluster = Cluster.up(nodes=arguments.nodes)
    say(f"The cluster is up: {', '.join(cluster.state.nodes)}. KUBECONFIG={cluster.kubeconfig}")


def down(_: argparse.Namespace) -> None:
    """end the cluster and leave nothing of it but caches"""
    Cluster.down()
    say("The cluster is down.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m localcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        if function is up:
            command.add_argument("--nodes", type=int, default=NODES, help=f"worker nodes (default: {NODES})")
    arguments = parser.parse_args()
    try:
        arguments.function(arguments)
    except ClusterError as error:
        sys.exit(f"localcluster: {error}")


if __name__ == "__main__":
    main()
