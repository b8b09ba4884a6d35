"""`python -m config`: what the starter hands over to once the packages are there."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from config import console
from config.embedded import EmbeddedServerError
from config.instance import DEFAULT_DATA, DEFAULT_PORT, Instance


def main(arguments: Sequence[str]) -> int:
    options, rest = _parser().parse_known_args(arguments)
    if options.action == "manage":
        options.arguments += rest  # such as --help, which argparse does not take for the rest by itself
    elif rest:
        console.complain(f"There is no option {rest[0]}. See ./kilotoken help")
        return 2
    instance = Instance(options.data.expanduser().resolve())
    try:
        return _run(options, instance)
    except EmbeddedServerError as error:
        console.complain(str(error))
        return 1


def _run(options: argparse.Namespace, instance: Instance) -> int:
    if options.action == "up":
        from config.supervisor import up

        return up(instance, port=options.port, with_demo=not options.no_demo)
    if options.action == "manage":
        from config.commands import manage

        return manage(instance, options.arguments)
    from config.reset import reset, stop

    return stop(instance) if options.action == "stop" else reset(instance, confirmed=options.yes)


def _parser() -> argparse.ArgumentParser:
    data = argparse.ArgumentParser(add_help=False)
    default = Path(os.environ.get("KILOTOKEN_DATA") or DEFAULT_DATA)
    data.add_argument("--data", type=Path, default=default, metavar="DIR", help="the data folder (default: .data)")
    parser = argparse.ArgumentParser(prog="./kilotoken", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    up = actions.add_parser("up", parents=[data], help="start everything; Ctrl-C stops it")
    up.add_argument("--port", type=_port, help=f"where the web server listens (default: {DEFAULT_PORT})")
    up.add_argument("--no-demo", action="store_true", help="leave an empty database empty")
    actions.add_parser("stop", parents=[data], help="stop a copy that runs in the background")
    reset = actions.add_parser("reset", parents=[data], help="delete all data of a copy")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    manage = actions.add_parser("manage", parents=[data], add_help=False, help="run a management command")
    manage.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: choose a number from 1024 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
