"""Runs the sandbox, the stand-in for Stripe's API, until it is told to stop."""

import json
import signal
import threading
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.sandbox import DocumentMissing, Options, Sandbox, load_document

# Seconds between two looks at what Stripe would have done by itself.
TICK = 5
CACHE_FOLDER = "stripe-sandbox"


class Command(BaseCommand):
    help = "Run a stand-in for Stripe's API on 127.0.0.1, for the demo and for tests. No real money moves."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=12190, help="0: any free port (see --port-file)")
        parser.add_argument("--port-file", type=Path, help="write the port here once the sandbox listens")
        parser.add_argument("--state", type=Path, help="keep objects, keys and clock in this file; else in memory")
        parser.add_argument(
            "--cache", type=Path, help="folder for the parsed OpenAPI document; default: beside --state"
        )
        parser.add_argument("--webhook", metavar="URL", help="send every event here")
        parser.add_argument("--webhook-secret", metavar="SECRET", help="what events are signed with")
        parser.add_argument("--return-url", default="", help="where the hosted invoice page leads back to")
        parser.add_argument("--seller", default=Options.seller, help="whose invoices these are")
        parser.add_argument("--search-lag", type=int, default=Options.search_lag, help="seconds until search finds")
        parser.add_argument("--unique-numbers", action="store_true", help="refuse an invoice number used before")
        parser.add_argument("--json", action="store_true", help="say where it listens as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["webhook"]) != bool(options["webhook_secret"]):
            raise CommandError("--webhook and --webhook-secret go together.", returncode=2)
        stopped = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        with _start(options) as sandbox:
            self._announce(sandbox, options)
            stopped.wait()

    def _announce(self, sandbox: Sandbox, options: dict[str, Any]) -> None:
        if options["port_file"]:
            unfinished = options["port_file"].with_name(options["port_file"].name + ".part")
            unfinished.write_text(f"{sandbox.port}\n")
            unfinished.replace(options["port_file"])
        version = sandbox.account.document.version
        if options["json"]:
            self.stdout.write(json.dumps({"url": sandbox.url, "port": sandbox.port, "version": version}))
        else:
            self.stdout.write(f"{sandbox.url} answers as Stripe {version}; no real money moves")
        self.stdout.flush()


def _start(options: dict[str, Any]) -> Sandbox:
    state, cache = options["state"], options["cache"]
    try:
        document = load_document(cache or (state.parent / CACHE_FOLDER if state else None))
        return Sandbox(
            port=options["port"],
            webhook=(options["webhook"], options["webhook_secret"]) if options["webhook"] else None,
            state=state,
            document=document,
            options=Options(
                seller=options["seller"],
                search_lag=options["search_lag"],
                unique_numbers=options["unique_numbers"],
                return_url=options["return_url"],
            ),
            tick=TICK,
        )
    except DocumentMissing as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"The sandbox cannot listen on port {options['port']}: {error.strerror}.") from error
