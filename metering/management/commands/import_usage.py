"""Import a usage file of an organisation (CSV with a header, JSON objects one per line, Parquet), or CloudEvents."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import batched
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from accounts.commands import JsonCommand
from accounts.organisations import find_organisation
from metering import aggregation, importing
from metering.formats import usage_files
from metering.importing import Owner, Tally
from metering.intake import Draft, Refusal


class Command(JsonCommand):
    help = (
        "Import a usage file (CSV with a header, .ndjson or .parquet) into an organisation. Safe to stop and to "
        "repeat: a row's identity is the digest of the file and its line, or the id that a column holds. Rows with "
        "corrects_source and corrects_id are corrections. With --cloudevents, lines are whole CloudEvents with names "
        "and subjects of their own. Exit code 1 if a row was refused or conflicts."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path)
        parser.add_argument("--organisation", metavar="SLUG", help="Slug or org_… id; not with --cloudevents.")
        parser.add_argument("--cloudevents", action="store_true", help="Each line is a CloudEvent as the API takes it.")
        parser.add_argument("--model", help="The model of all rows, unless a column holds it.")
        parser.add_argument("--api-key", metavar="key_…", help="Put the usage down to this key of the organisation.")
        parser.add_argument(
            "--columns",
            type=_columns,
            metavar="FIELD=COLUMN,…",
            help="Which column holds what: time=TIMESTAMP,input_tokens=ContextTokens,… Usual names need not be said. "
            "id, source, type, subject and data are the event's own; a column for data holds an object, or its JSON.",
        )
        parser.add_argument(
            "--shift-to",
            type=date.fromisoformat,
            metavar="DAY",
            help="Move all times by whole days so that the first row falls on this day (UTC). The same file with "
            "another shift conflicts with itself, it is never counted twice.",
        )
        parser.add_argument(
            "--source", metavar="NAME", help="The source of all rows, in the place of the file's digest."
        )
        parser.add_argument("--type", default="ai.usage", help="The event type of all rows (ai.usage).")
        parser.add_argument("--backfill", action="store_true", help="Take rows older than the late window.")
        parser.add_argument("--fold", action="store_true", help="Add the rows to the totals before ending.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        if options["cloudevents"]:
            file = usage_files.look_over_lines(options["file"])
            tally = self._import(file, usage_files.event_lines(file), None, backfill=options["backfill"])
            return self._result(file, tally, fold=options["fold"])
        if not options["organisation"]:
            raise CommandError("Say whose usage it is with --organisation.")
        file = usage_files.look_over(options["file"], options["columns"])
        if not options["model"] and not {"model", "data", "corrects_id"} & file.columns.keys():
            raise CommandError("Name the model with --model, or the column that holds it with --columns model=…")
        owner = importing.owner_of_rows(find_organisation(options["organisation"]), options["api_key"])
        shift = {"shift": usage_files.shift_to(file, options["shift_to"])} if options["shift_to"] else {}
        rows = usage_files.drafts(
            file,
            type=options["type"],
            subject=owner.name,
            model=options["model"],
            source=options["source"],
            **shift,
        )
        tally = self._import(file, rows, owner, backfill=options["backfill"])
        return self._result(file, tally, fold=options["fold"])

    def _result(self, file: usage_files.UsageFile, tally: Tally, *, fold: bool) -> Mapping[str, Any]:
        if fold:
            while aggregation.fold_pending(now=timezone.now()).batches:
                pass
        return {
            "file": str(file.path),
            "digest": file.digest,
            "rows": tally.rows,
            "accepted": tally.accepted,
            "duplicates": tally.duplicates,
            "conflicts": tally.conflicts,
            "rejected": tally.rejected,
            "refused_lines": tally.refused_lines,
            "totals": "up to date" if fold else "follow within seconds, or at once with the command aggregate",
        }

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["conflicts"] or result["rejected"] else 0

    def _import(
        self,
        file: usage_files.UsageFile,
        rows: Iterator[tuple[int, Draft | Refusal]],
        owner: Owner | None,
        *,
        backfill: bool,
    ) -> Tally:
        tally = Tally()
        with tqdm(total=file.lines, unit=" lines", file=sys.stderr, desc=file.path.name, mininterval=0.5) as progress:
            for batch in batched(rows, importing.COMMIT_ROWS):
                verdicts = importing.take_rows(batch, owner=owner, backfill=backfill, now=timezone.now())
                for (line, _), verdict in zip(batch, verdicts, strict=True):
                    tally.add(line, verdict)
                progress.update(batch[-1][0] - progress.n)
        return tally


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    columns = {field.strip(): column.strip() for field, _, column in pairs}
    if not columns or not all(columns) or not all(columns.values()):
        raise argparse.ArgumentTypeError("must read field=column,field=column")
    return columns
