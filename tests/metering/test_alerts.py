"""Alerts: once per crossing, with recovery, at the hours people chose, by e-mail and signed webhook."""

import json
import threading
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import time_machine
from django.core import mail

from accounts.signed_posts import WebhookAddressRefused, require_public, signature
from metering import alerts
from metering.alerting import send_due
from metering.limits_page import limit_in_words
from metering.models import Alert, AlertMessage, AlertSettings
from metering.quotas import QuotaSpec, archive_quota, change_quota, define_quota
from tests.accounts.threads import at_once
from tests.metering.usage_world import event, fold_all, send

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)


def limit(organisation, amount="1000", *, window="month", thresholds=(80, 100)):
    spec = QuotaSpec(
        measure="meter",
        meter_key="output_tokens",
        amount=Decimal(amount),
        window=window,
        thresholds=thresholds,
        enforcement="soft",
    )
    return define_quota(organisation, spec, set_by="operator", now=NOW, actor="test")


def use(key, tokens, when=NOW):
    send(event(key.api_key.public_id, when, output_tokens=tokens), now=when)
    fold_all(when)


def settings(organisation, **values):
    return alerts.change_settings(AlertSettings(organisation=organisation, **values), actor="test")


def told():
    """Subject and receiver of what went out."""
    return [(message.subject, message.to[0]) for message in mail.outbox]


def test_each_threshold_is_told_once_however_often_it_is_looked_at(acme, acme_key, olivia, vera):
    limit(acme)
    use(acme_key, 850)
    for _ in range(3):
        alerts.watch(NOW)
        send_due(NOW)
    use(acme_key, 200)
    alerts.watch(NOW)
    send_due(NOW)

    assert told() == [
        ("Acme: Output tokens per month: 80% of the limit is used, 850 of 1,000.", olivia.email),
        ("Acme: Output tokens per month: 100% of the limit is used, 1,050 of 1,000.", olivia.email),
    ]
    assert "/o/acme/limits/" in mail.outbox[0].body


def test_shares_of_nothing_are_not_told(acme, acme_key):
    limit(acme, "0")
    use(acme_key, 5)
    assert alerts.watch(NOW) == alerts.Watched(0, 0)


def test_an_alert_says_whose_limit_it_is(acme, acme_key):
    terms = {"measure": "meter", "meter_key": "output_tokens", "amount": Decimal(100), "window": "day"}
    key = acme_key.api_key
    define_quota(acme, QuotaSpec(**terms, scope="api_key", api_key=key), set_by="operator", now=NOW, actor="test")
    each = QuotaSpec(**terms, scope="end_user", models=("m-*",))
    quota = define_quota(acme, each, set_by="operator", now=NOW, actor="test")
    assert limit_in_words(quota, "ada") == "Output tokens per day, for the end user ada, on m-*"
    use(acme_key, 85)
    alerts.watch(NOW)
    assert (
        Alert.objects.get().text
        == f"Output tokens per day, for the key {key.name}: 80% of the limit is used, 85 of 100."
    )


def test_a_raised_limit_is_a_recovery_and_reaching_it_again_is_no_news(acme, acme_key):
    quota = limit(acme, thresholds=(80,))
    use(acme_key, 850)
    alerts.watch(NOW)
    change_quota(quota, by_customer=False, amount=Decimal(5000), actor="test")

    assert alerts.watch(NOW) == alerts.Watched(0, 1)
    send_due(NOW)
    assert Alert.objects.get().recovered_at == NOW
    assert "Over since" in mail.outbox[0].body
    change_quota(quota, by_customer=False, amount=Decimal(1000), actor="test")
    assert alerts.watch(NOW) == alerts.Watched(0, 0)


@pytest.mark.parametrize("how", ["window", "archive"])
def test_the_end_of_the_window_and_of_the_limit_are_recoveries(acme, acme_key, how):
    quota = limit(acme, thresholds=(80,))
    use(acme_key, 850)
    alerts.watch(NOW)
    later = NOW if how == "archive" else datetime(2026, 12, 1, tzinfo=UTC)
    if how == "archive":
        archive_quota(quota, by_customer=False, now=NOW, actor="test")

    assert alerts.watch(later).recovered == 1


def test_rate_limits_are_not_watched(acme, acme_key):
    limit(acme, window="minute")
    use(acme_key, 5000)

    assert alerts.watch(NOW) == alerts.Watched(0, 0)


@pytest.mark.django_db(transaction=True)
def test_rounds_at_once_tell_a_crossing_once(acme, acme_key):
    limit(acme, thresholds=(80,))
    use(acme_key, 850)

    at_once(*(lambda: alerts.watch(NOW) for _ in range(4)))

    assert AlertMessage.objects.count() == 1


# --- When and to whom -------------------------------------------------------------------------------------------------


def test_addresses_that_were_chosen_are_told_instead(acme, acme_key, olivia):
    settings(acme, emails=["ops@acme.example", "cfo@acme.example"])
    limit(acme, thresholds=(80,))
    use(acme_key, 850)
    alerts.watch(NOW)
    send_due(NOW)

    assert [to for _, to in told()] == ["ops@acme.example", "cfo@acme.example"]


@pytest.mark.parametrize(
    ("quiet", "hour", "expected"),
    [
        ((time(22), time(7)), 23, (16, 6)),  # 23:00 UTC is midnight in Berlin: told at 7:00 there
        ((time(22), time(7)), 12, None),
        ((time(9), time(17)), 12, (15, 16)),
        ((None, None), 3, None),
    ],
)
def test_quiet_hours_put_e_mails_off(acme, quiet, hour, expected):
    chosen = AlertSettings(organisation=acme, quiet_from=quiet[0], quiet_until=quiet[1])
    now = NOW.replace(hour=hour, minute=0, second=0)

    at = alerts.told_at(chosen, now).astimezone(UTC)

    assert at == (now if expected is None else datetime(2026, 11, *expected, tzinfo=UTC))


def test_a_digest_tells_everything_in_one_message_in_the_morning(acme, acme_key):
    settings(acme, is_digest=True)
    limit(acme, thresholds=(50, 80))
    use(acme_key, 850)
    alerts.watch(NOW)

    assert send_due(NOW) == 0
    morning = datetime(2026, 11, 16, 7, tzinfo=UTC)  # eight in Berlin
    assert send_due(morning) == 1
    assert told()[0][0] == "Acme: 2 alerts"


def test_quiet_hours_need_both_ends(acme):
    with pytest.raises(alerts.QuietHoursIncomplete):
        settings(acme, quiet_from=time(22))


# --- Unusual days -----------------------------------------------------------------------------------------------------


def test_a_day_that_is_unlike_others_is_told_once(acme, acme_key):
    settings(acme, change_percent=300)
    for days in range(1, 8):
        use(acme_key, 1000 + days, NOW - timedelta(days=days))
    use(acme_key, 2900)

    assert alerts.watch_changes(NOW) == 0
    use(acme_key, 200)
    assert alerts.watch_changes(NOW) == 1
    assert alerts.watch_changes(NOW) == 0
    assert Alert.objects.get().text == "Today 3,100 tokens were used already: a usual day has 1,004."


def test_too_few_days_have_no_usual_one(acme, acme_key):
    settings(acme, change_percent=100)
    use(acme_key, 10, NOW - timedelta(days=1))
    use(acme_key, 99_999)

    assert alerts.watch_changes(NOW) == 0


# --- Webhooks ---------------------------------------------------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    status = 200
    got: list[tuple[dict[str, str], bytes]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((dict(self.headers), body))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver(settings):
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    Receiver.got, Receiver.status = [], 200
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


def cross_with_webhook(acme, acme_key, url):
    alerts.change_settings(AlertSettings(organisation=acme, webhook_url=url), actor="test")
    limit(acme, thresholds=(80,))
    use(acme_key, 850)
    alerts.watch(NOW)


def test_a_webhook_is_signed_and_says_what_was_crossed(acme, acme_key, receiver):
    cross_with_webhook(acme, acme_key, receiver)

    assert send_due(NOW) == 2  # and an e-mail

    headers, body = Receiver.got[0]
    stamp = int(headers["webhook-timestamp"])
    secret = AlertSettings.objects.get().webhook_secret
    assert headers["webhook-signature"] == signature(secret, headers["webhook-id"], stamp, body)
    told = json.loads(body)
    assert (told["type"], told["data"]["threshold_percent"], told["data"]["value"]) == ("alert.crossed", 80, "850")


def test_a_webhook_that_fails_is_tried_again_later_with_the_same_id(acme, acme_key, receiver):
    cross_with_webhook(acme, acme_key, receiver)
    Receiver.status = 503
    send_due(NOW)
    assert send_due(NOW) == 0
    Receiver.status = 204

    assert send_due(NOW + timedelta(minutes=2)) == 1
    assert len({headers["webhook-id"] for headers, _ in Receiver.got}) == 1
    assert AlertMessage.objects.filter(sent_at=None).count() == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://10.0.0.8/x",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://user@example.com/",
        "ftp://example.com/",
        "https:///nothing",
        "https://localhost/",
    ],
)
def test_webhooks_lead_nowhere_but_to_the_public_internet(url):
    with pytest.raises(WebhookAddressRefused):
        require_public(url)


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_members_read_alerts_and_settings_and_some_change_them(client_for, vera, olivia, acme, acme_key):
    limit(acme, thresholds=(80,))
    use(acme_key, 850)
    alerts.watch(NOW)
    with time_machine.travel(NOW, tick=False):
        page = client_for(vera).get("/o/acme/alerts/").content.decode()
        assert "80% of the limit is used" in page
        assert olivia.email in page
        assert client_for(vera).get("/o/acme/alerts/settings/").status_code == 403
        form = {"emails": "ops@acme.example", "change_percent": "150", "quiet_from": "22:00", "quiet_until": "07:00"}
        assert client_for(olivia).post("/o/acme/alerts/settings/", form).status_code == 302
    saved = AlertSettings.objects.get()
    assert (saved.emails, saved.change_percent, saved.quiet_until) == (["ops@acme.example"], 150, time(7))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"emails": "nobody"}, "valid email"),
        ({"webhook_url": "http://10.0.0.1/"}, "public internet"),
        ({"quiet_from": "22:00"}, "beginning and an end"),
    ],
)
def test_wrong_settings_are_named(client_for, olivia, acme, wrong, said):
    page = client_for(olivia).post("/o/acme/alerts/settings/", wrong).content.decode()

    assert said in page
    assert not AlertSettings.objects.exists()


def test_alerts_of_another_organisation_do_not_exist(client_for, gus, acme, globex):
    assert client_for(gus).get("/o/acme/alerts/").status_code == 404
