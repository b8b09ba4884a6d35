"""The admin's sidebar leads to every list, and lists say in plain words that they are empty."""

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.urls import reverse

from billing.models import BillingDetails, CouponRedemption, PlanVersion, PriceComponent

# Reached from what they belong to.
WITHIN_OTHERS = {Group, BillingDetails, CouponRedemption, PlanVersion, PriceComponent}


def test_every_list_is_in_the_sidebar():
    shown = {str(item["link"]) for group in settings.UNFOLD["SIDEBAR"]["navigation"] for item in group["items"]}
    models = [model._meta for model in admin.site._registry if model not in WITHIN_OTHERS]
    missing = {str(one) for one in models} - {
        str(one) for one in models if reverse(f"admin:{one.app_label}_{one.model_name}_changelist") in shown
    }
    assert not missing


@pytest.mark.django_db
def test_an_empty_list_says_so_in_plain_words(client_for, operator):
    client = client_for(operator)
    assert "There are no coupons yet." in client.get("/admin/billing/coupon/").content.decode()
    assert "Nothing here fits." in client.get("/admin/billing/coupon/?q=none").content.decode()
    assert "Cockpit" in client.get("/admin/").content.decode()


@pytest.mark.django_db
def test_instants_are_written_with_their_zone(client_for, operator, acme):
    page = client_for(operator).get("/admin/accounts/organisation/").content.decode()
    assert acme.created_at.strftime(f"{acme.created_at.day} %b %Y, %H:%M UTC") in page
