"""`headgate cluster`: a Kubernetes of real binaries on this machine, to try and to test with."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from headgate_cli.parsers import Subparsers
from headgate_cluster import binaries, cluster, images, ours, packages, triton
from headgate_cluster.commands import say
from headgate_cluster.containers import Archive
from headgate_cluster.errors import ClusterError
from headgate_cluster.layout import Layout, default_state, regions

Handler = Callable[[argparse.Namespace], int]


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "cluster",
        help="run a local Kubernetes",
        description="Run a Kubernetes of real binaries on this machine: each region is a machine "
        "of its own, with simulated GPUs. Where KUBECONFIG names another cluster, that one is used "
        "and nothing is started.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, handler: Handler, sentence: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=sentence, description=sentence.capitalize() + ".")
        added.set_defaults(run=handler)
        return added

    up = action("up", _up, "start the regions, or what of them does not run")
    up.add_argument("--regions", default="local", help="names, with commas (local)")
    down = action("down", _down, "stop the regions and remove their data")
    down.add_argument("--keep", action="store_true", help="keep objects and volumes for `up`")
    action("status", _status, "show every machine, its processes and their memory")
    action("kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    action("wheel", _wheel, "build the wheel that the images hold and print its path")
    action("images", _images, "build the project's images and print their tags")
    load = action("load-image", _load_image, "import images into the regions that run")
    load.add_argument(
        "archives",
        nargs="*",
        metavar="TAG=ARCHIVE",
        help="a tag and an archive as `docker save` writes it; none: the project's images",
    )
    fetch = action(
        "binaries",
        _binaries,
        "build Kubernetes and CoreDNS, fetch Triton, and print the binaries' paths",
    )
    fetch.add_argument("--light", action="store_true", help="only what integration tests need")


def foreign_kubeconfig() -> str | None:
    """Return KUBECONFIG where the user points it at a cluster that is not ours."""
    chosen = os.environ.get("KUBECONFIG", "")
    ours = default_state() / "kubeconfig"
    return chosen if chosen and Path(chosen).absolute() != ours else None


def _up(arguments: argparse.Namespace) -> int:
    if chosen := foreign_kubeconfig():
        say(f"KUBECONFIG is set, so the cluster of {chosen} is used; nothing to start")
        print(chosen)
        return 0
    layout = Layout(default_state(), regions(arguments.regions))
    print(cluster.up(layout, images.built(), images.pause()))
    return 0


def _down(arguments: argparse.Namespace) -> int:
    if Layout.exists(default_state()):
        cluster.down(Layout.load(default_state()), keep=arguments.keep)
    say("down: nothing is left running")
    return 0


def _status(_: argparse.Namespace) -> int:
    for machine in cluster.status(Layout.load(default_state())):
        print(f"{machine.name:<10} {machine.state:<12} {machine.memory:>6} MiB")
        for name, memory in machine.processes.items():
            print(f"  {name:<21} {memory:>6} MiB")
    return 0


def _kubeconfig(_: argparse.Namespace) -> int:
    print(foreign_kubeconfig() or Layout.load(default_state()).kubeconfig)
    return 0


def _wheel(_: argparse.Namespace) -> int:
    print(ours.wheel())
    return 0


def _images(_: argparse.Namespace) -> int:
    for archive in images.build():
        print(archive.tag)
    return 0


def _load_image(arguments: argparse.Namespace) -> int:
    if foreign_kubeconfig():
        raise ClusterError("KUBECONFIG names another cluster; push images where that one pulls")
    archives = [_archive(text) for text in arguments.archives] or images.build()
    loaded = cluster.load_images(Layout.load(default_state()), archives)
    say(f"{len(loaded)} of {len(archives)} images were new to the cluster")
    return 0


def _archive(text: str) -> Archive:
    tag, _, path = text.partition("=")
    if not path:
        raise ClusterError(f"{text!r} is not TAG=ARCHIVE")
    return Archive(tag, Path(path))


def _binaries(arguments: argparse.Namespace) -> int:
    packages.ensure(packages.LIGHT if arguments.light else packages.FULL)
    found = binaries.build(binaries.LIGHT if arguments.light else binaries.TARGETS)
    if not arguments.light:
        triton.install()
    for path in found.values():
        print(path)
    return 0
