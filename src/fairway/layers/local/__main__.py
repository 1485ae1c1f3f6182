"""`python -m fairway.layers.local`: the broker. Servers and workers start it themselves.

Run by hand it stays in the foreground, for a service manager or a container. `--socket` or the settings in
DJANGO_SETTINGS_MODULE say where it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.local.broker import Broker
from fairway.layers.local.place import Place, given_place
from fairway.layers.local.project import place_of_layer
from fairway.layers.local.starting import Claim, claim

try:
    import uvloop
except ModuleNotFoundError:
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until nobody needs the broker any more, or until a signal. Also 0 if there is a broker already."""
    options = _parser().parse_args(argv)
    try:
        place = given_place(options.socket, options.group) if options.socket else place_of_layer(options.layer)
        claimed = claim(place)
        if claimed is None:
            if not options.detach:
                print(f"A broker is at {place.path} already.", file=sys.stderr)
            return 0
        listening = claimed.listen()
    except (InvalidChannelLayerError, OSError) as error:
        print(f"python -m fairway.layers.local: {error}", file=sys.stderr)
        return 1
    if options.detach:
        _detach()
    else:
        print(f"The broker listens at {place.path}", file=sys.stderr)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(place, claimed, listening))
    return 0


async def _serve(place: Place, claimed: Claim, listening: socket.socket) -> None:
    _raise_limit()
    broker = Broker(place, claimed.heritage)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, broker.stop)
    await broker.serve(listening)


def _detach() -> None:
    """Let the caller of the command go on, and continue in a session of our own, without its terminal and files."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")  # not to keep the folder of a release that is removed
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)


def _raise_limit() -> None:
    """Raise the limit of descriptors: each connected process takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fairway.layers.local", description="The broker of the local channel layer."
    )
    parser.add_argument("--socket", metavar="PATH", help="where to listen, instead of where the settings say")
    parser.add_argument("--group", type=_number_or_name, help="a group of users who may connect, with --socket")
    parser.add_argument("--layer", default="default", help="alias in CHANNEL_LAYERS (default: %(default)s)")
    parser.add_argument("--detach", action="store_true", help="return as soon as it listens")
    return parser


def _number_or_name(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


if __name__ == "__main__":
    sys.exit(main())
