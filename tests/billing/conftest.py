"""What every billing test stands on: the meters that a migration makes."""

from importlib import import_module

import pytest
from django.apps import apps

from metering.models import Meter


@pytest.fixture(autouse=True)
def _meters(request):
    """Tests with real commits empty every table behind themselves, also those that migrations filled."""
    if {"db", "transactional_db"} & set(request.fixturenames):
        request.getfixturevalue("transactional_db" if "transactional_db" in request.fixturenames else "db")
        if not Meter.objects.exists():
            import_module("metering.migrations.0002_genai_meters").define_meters(apps, None)
