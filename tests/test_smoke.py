import pytest


@pytest.mark.django_db
def test_meters_of_generative_ai_are_ready():
    from metering.models import Meter

    assert Meter.objects.filter(key="input_tokens").exists()
