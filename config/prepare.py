"""What a start does before any program of the copy runs: migrations, and static files when they changed."""

import hashlib
import os
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    migrate()
    collect_static()


def migrate() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", verbosity=0, interactive=False)


def collect_static() -> None:
    """Collect and compress, unless every source is as it was the last time."""
    folder = Path(settings.STATIC_ROOT)
    stamp = folder.with_name(f"{folder.name}.sources")
    sources = digest_of_sources()
    if not folder.exists() or not stamp.exists() or stamp.read_text() != sources:
        call_command("collectstatic", verbosity=0, interactive=False, clear=True)
        stamp.write_text(sources)


def digest_of_sources() -> str:
    """One digest of the names, sizes and times of change of all static files."""
    from django.contrib.staticfiles.finders import get_finders

    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = os.stat(storage.path(name))
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
