"""Past usage, written by one statement in batches as a stream would have left them; folding it is the real thing."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from accounts.models import ApiKey, Organisation
from metering.partitions import month_of, partition_name
from tests import factories
from tests.benchmarks.bodies import MODELS

FILL = """
WITH batch AS (
    INSERT INTO ingest_batch (organisation_id, receipt_month, received_at, format, event_count, unmatched_count,
        first_time, last_time)
    VALUES (%(organisation)s, %(month)s, now(), 'benchmark', %(count)s, 0, %(first)s, %(last)s) RETURNING id
)
INSERT INTO {partition} (organisation_id, batch_id, time, project_id, api_key_id, receipt_month, key, time_assumed,
    source, event_id, type, subject, data)
SELECT %(organisation)s, batch.id, %(first)s + (%(last)s - %(first)s) * ((n - 1)::float8 / %(count)s),
    %(project)s, (%(keys)s::bigint[])[1 + n %% %(key_count)s], %(month)s, uuidv7(), false,
    'benchmark/history', n::text, 'ai.usage', 'history',
    jsonb_build_object('model', (%(models)s::text[])[1 + (n / 7) %% %(model_count)s],
        'input_tokens', 20 + n %% 9000, 'cache_read_tokens', n %% 4096, 'output_tokens', n %% 2000)
FROM batch, generate_series(1, %(count)s) AS n"""


def write_events(
    organisation: Organisation,
    count: int,
    *,
    first: datetime,
    last: datetime,
    received_at: datetime,
    models: Sequence[str] = MODELS,
) -> None:
    """One batch of `count` events that are spread evenly over [first, last) and over keys and models; not folded."""
    keys = list(ApiKey.objects.for_organisation(organisation).values_list("pk", flat=True))
    month = month_of(received_at)
    values = {"organisation": organisation.pk, "month": month, "count": count, "first": first, "last": last}
    values |= {"project": factories.default_project(organisation).pk, "keys": keys, "key_count": len(keys)}
    values |= {"models": list(models), "model_count": len(models)}
    with connection.cursor() as cursor:
        cursor.execute(FILL.format(partition=partition_name(month)), values)
