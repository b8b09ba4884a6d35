"""The meters of generative AI, ready to use."""

from decimal import Decimal

from django.db import migrations

MILLION = Decimal(1_000_000)
ONE = Decimal(1)
TOKENS = "Exclusive token pool: no token is counted in two of them."

# key, name, value field, aggregation, unit, display scale, description, key of the meter it is a part of
GENAI_METERS = [
    ("input_tokens", "Input tokens", "input_tokens", "sum", "tokens", MILLION, f"Uncached prompt. {TOKENS}", None),
    ("cache_read_tokens", "Cached input tokens", "cache_read_tokens", "sum", "tokens", MILLION, f"Read from cache. {TOKENS}", None),
    ("cache_write_tokens", "Cache write tokens", "cache_write_tokens", "sum", "tokens", MILLION, f"Written to cache. {TOKENS}", None),
    ("output_tokens", "Output tokens", "output_tokens", "sum", "tokens", MILLION, f"Generated, reasoning included. {TOKENS}", None),
    ("reasoning_tokens", "Reasoning tokens", "reasoning_tokens", "sum", "tokens", MILLION, "The part of the output that was reasoning.", "output_tokens"),
    ("audio_input_tokens", "Audio input tokens", "audio_input_tokens", "sum", "tokens", MILLION, f"Audio prompt. {TOKENS}", None),
    ("audio_output_tokens", "Audio output tokens", "audio_output_tokens", "sum", "tokens", MILLION, f"Generated audio. {TOKENS}", None),
    ("image_input_tokens", "Image input tokens", "image_input_tokens", "sum", "tokens", MILLION, f"Image prompt. {TOKENS}", None),
    ("image_output_tokens", "Image output tokens", "image_output_tokens", "sum", "tokens", MILLION, f"Generated images. {TOKENS}", None),
    ("requests", "Requests", "", "count", "requests", ONE, "Calls, whatever their size.", None),
]  # fmt: skip


def define_meters(apps, schema_editor):
    Meter = apps.get_model("metering", "Meter")
    by_key = {}
    for position, (key, name, field, aggregation, unit, scale, description, whole) in enumerate(GENAI_METERS, start=1):
        by_key[key] = Meter.objects.create(
            key=key,
            name=name,
            description=description,
            event_type="ai.usage",
            value_field=field,
            aggregation=aggregation,
            unit=unit,
            display_scale=scale,
            dimensions=["model"],
            part_of=by_key.get(whole),
            position=position * 10,
        )


def remove_meters(apps, schema_editor):
    apps.get_model("metering", "Meter").objects.filter(key__in=[row[0] for row in GENAI_METERS]).delete()


class Migration(migrations.Migration):
    dependencies = [("metering", "0001_initial")]

    operations = [migrations.RunPython(define_meters, remove_meters)]
