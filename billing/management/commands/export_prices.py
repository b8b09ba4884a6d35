"""Write the price book as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from accounts.commands import JsonCommand
from billing.models import Price
from billing.price_files import write_prices_file


class Command(JsonCommand):
    help = "Write every row of the price book to a CSV file, superseded ones too; import_prices reads it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path)

    def run(self, **options: Any) -> Mapping[str, Any]:
        rows = Price.objects.select_related("meter", "superseded_by").order_by("pk")
        with options["file"].open("w", encoding="utf-8", newline="") as file:
            count = sum(1 for _ in map(file.write, write_prices_file(rows)))
        return {"file": str(options["file"]), "rows": count - 1}
