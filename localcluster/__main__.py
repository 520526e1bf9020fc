"""The local cluster's command line."""

from __future__ import annotations

import argparse
import os
import sys

from localcluster import choice
from localcluster.cluster import NODES
from localcluster.images import build as build_images
from localcluster.shell import ClusterError, say


def up(arguments: argparse.Namespace) -> None:
    """make the cluster, or repair the one that runs"""
    say(choice.described())
    cluster = choice.up(nodes=arguments.nodes)
    say(f"The cluster is up: {', '.join(node.name for node in cluster.nodes)}. KUBECONFIG={cluster.kubeconfig}")
    proxied = any(name.lower() == "https_proxy" and value for name, value in os.environ.items())
    if proxied and not _excepted(cluster.no_proxy):
        say(f"A proxy is set: add {cluster.no_proxy} to NO_PROXY, or kubectl and helm will ask it for the cluster.")


def down(_: argparse.Namespace) -> None:
    """end the cluster and leave nothing of it but caches"""
    choice.chosen().down()
    say("The cluster is down.")
    _tell_others()


def images(arguments: argparse.Namespace) -> None:
    """build the images that changed, and load them into the cluster if it runs"""
    names = build_images(arguments.names)
    if choice.chosen().is_running():
        choice.connect().load_images(names)
    else:
        say("No cluster runs to load them into: `python -m localcluster up`, then `images` again")


def load(arguments: argparse.Namespace) -> None:
    """load an image that was built before into the cluster"""
    choice.connect().load_images(arguments.names)


def status(_: argparse.Namespace) -> None:
    """tell what runs"""
    say(choice.described())
    if not choice.chosen().is_running():
        say("down")
        _tell_others()
        if left := choice.chosen().residue():
            say(f"but not all is gone: {', '.join(left)}")
            say("`python -m localcluster up` starts it or makes it anew, `down` removes it")
        return
    cluster = choice.connect()
    for node in cluster.nodes:
        power = "on" if node.is_running else "off"
        say(f"{node.name}  power {power}  network {'connected' if node.is_connected else 'cut off'}")
    say(f"KUBECONFIG={cluster.kubeconfig}")
    _tell_others()


def _tell_others() -> None:
    for name in choice.others():
        say(f"The other one runs beside it: UNDERSTUDY_CLUSTER={name} before a command means that one.")


def _excepted(host: str) -> bool:
    named = {word.strip() for name in ("NO_PROXY", "no_proxy") for word in os.environ.get(name, "").split(",")}
    return host in named


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m localcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down, images, load, status):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        if function is up:
            command.add_argument("--nodes", type=int, default=NODES, help=f"worker nodes (default: {NODES})")
        if function in (images, load):
            command.add_argument("names", nargs="*" if function is images else "+", metavar="NAME", help="an image")
    arguments = parser.parse_args()
    try:
        arguments.function(arguments)
    except ClusterError as error:
        sys.exit(f"localcluster: {error}")


if __name__ == "__main__":
    main()
