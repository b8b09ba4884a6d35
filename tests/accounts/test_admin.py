"""The operators' pages: every one opens, acts ask first and are audited, no secret is stored or shown twice."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse

from accounts.credentials import digest_of
from accounts.memberships import invite
from accounts.models import ApiKey, AuditEntry, Membership, Organisation, Role, ServiceToken, User
from tests import factories


@pytest.fixture
def admin(client_for, operator):
    return client_for(operator)


def page(model: str, what: str = "changelist", *ids: object) -> str:
    return reverse(f"admin:accounts_{model}_{what}", args=ids)


@pytest.fixture
def world(acme, olivia, martin, vera, acme_key, acme_revoked_key, acme_access_token, service_token):
    invite(acme, "new@acme.example", Role.VIEWER, invited_by=olivia)


@pytest.mark.parametrize(
    "model", ["user", "organisation", "invitation", "apikey", "servicetoken", "accesstoken", "auditentry"]
)
def test_every_list_and_every_row_opens(admin, world, model):
    listed = admin.get(page(model))
    assert listed.status_code == 200
    assert admin.get(page(model), {"q": "acme"}).status_code == 200
    row = listed.context["cl"].queryset.first()
    assert admin.get(page(model, "change", row.pk)).status_code == 200


def test_lists_use_nothing_that_django_has_deprecated(admin, world, recwarn):
    admin.get(page("apikey"))
    admin.get(page("organisation"))
    assert [str(warning.message) for warning in recwarn if "deprecated" in str(warning.message)] == []


def test_browsers_find_an_icon_in_the_admin(admin, acme):
    assert b'href="/favicon.ico"' in admin.get(page("organisation")).content
    assert admin.get("/favicon.ico")["Location"].endswith(".svg")


def test_members_do_not_get_in(client_for, olivia, acme):
    assert client_for(olivia).get(page("organisation")).status_code == 302


def test_user_is_made_with_a_confirmed_address_and_a_password(admin, client, db):
    filled = {"email": "New@X.example", "name": "N", "password1": factories.PASSWORD, "password2": factories.PASSWORD}
    assert admin.get(page("user", "add")).status_code == 200
    admin.post(page("user", "add"), {**filled, "usable_password": "true"})

    user = User.objects.get(email="new@x.example")
    assert user.check_password(factories.PASSWORD)
    assert EmailAddress.objects.get(user=user).verified
    entry = AuditEntry.objects.get(action="user.created", subject_label="new@x.example")
    assert factories.PASSWORD not in str(entry.details)


def test_password_of_a_user_is_changed(admin, olivia):
    address = reverse("admin:auth_user_password_change", args=[olivia.pk])
    assert admin.get(address).status_code == 200
    admin.post(
        address, {"password1": "another passphrase", "password2": "another passphrase", "usable_password": "true"}
    )
    olivia.refresh_from_db()
    assert olivia.check_password("another passphrase")


def test_inactive_user_is_out_at_once(admin, client_for, olivia, acme):
    hers = client_for(olivia)
    assert hers.get("/o/acme/keys/").status_code == 200
    User.objects.filter(pk=olivia.pk).update(is_active=False)
    assert hers.get("/o/acme/keys/").status_code == 302


def test_suspension_asks_first_and_is_audited(admin, acme, operator):
    picked = {"action": "suspend_selected", "_selected_action": acme.pk}
    asked = admin.post(page("organisation"), picked)
    acme.refresh_from_db()
    assert "Suspend these organisations?" in asked.content.decode()
    assert not acme.is_suspended

    admin.post(page("organisation"), {**picked, "confirmed": "yes"})
    acme.refresh_from_db()
    assert acme.is_suspended
    assert AuditEntry.objects.get(action="organisation.suspended").actor == operator

    lift = reverse("admin:accounts_organisation_unsuspend_this", args=[acme.pk])
    shown = admin.get(page("organisation", "change", acme.pk)).content.decode()
    assert lift in shown
    assert reverse("admin:accounts_organisation_suspend_this", args=[acme.pk]) not in shown
    assert "Lift the suspension" in admin.get(lift).content.decode()
    acme.refresh_from_db()
    assert acme.is_suspended
    admin.post(lift, {"confirmed": "yes"})
    acme.refresh_from_db()
    assert not acme.is_suspended


def test_organisation_is_made_and_changed_through_the_verbs(admin, olivia):
    admin.post(page("organisation", "add"), {"name": "Initech", "owner": olivia.pk, "time_zone": "Europe/Berlin"})
    made = Organisation.objects.get(slug="initech")
    assert made.memberships.get().role == "owner"
    assert made.days_zone == "Europe/Berlin"

    address = page("organisation", "change", made.pk)
    admin.post(address, {"name": "Initech AG", "time_zone": "Asia/Tokyo", **_formsets(admin.get(address))})
    made.refresh_from_db()
    assert (made.name, made.time_zone, made.days_zone) == ("Initech AG", "Asia/Tokyo", "Europe/Berlin")
    assert AuditEntry.objects.filter(action="organisation.updated").count() == 1


def test_roles_are_changed_through_the_verb_and_the_last_owner_stays(admin, acme, olivia, vera):
    owner, viewer = Membership.objects.get(user=olivia), Membership.objects.get(user=vera)
    address, form = page("organisation", "change", acme.pk), {"name": "Acme", "time_zone": "Europe/Berlin"}
    admin.post(address, form | _formsets(admin.get(address), {viewer.pk: "billing"}))
    answer = admin.post(address, form | _formsets(admin.get(address), {owner.pk: "viewer"}), follow=True)

    viewer.refresh_from_db()
    owner.refresh_from_db()
    assert (viewer.role, owner.role) == ("billing", "owner")
    assert "needs an owner" in answer.content.decode()
    assert AuditEntry.objects.filter(action="member.role_changed").count() == 1


def _formsets(shown, roles=None) -> dict:
    """The inlines as the browser would send them from the page that was shown."""
    filled = {}
    for inline in shown.context["inline_admin_formsets"]:
        for form in (inline.formset.management_form, *inline.formset.initial_forms):
            filled |= {field.html_name: "" if field.value() is None else field.value() for field in form}
            if roles and form.prefix.startswith("memberships-") and form.instance.pk in roles:
                filled[f"{form.prefix}-role"] = roles[form.instance.pk]
    return filled


def test_key_is_revoked_after_asking(admin, acme_key, operator):
    picked = {"action": "revoke_selected", "_selected_action": acme_key.api_key.pk}
    assert "Revoke these keys?" in admin.post(page("apikey"), picked).content.decode()
    assert ApiKey.objects.get().revoked_at is None
    admin.post(page("apikey"), {**picked, "confirmed": "yes", "reason": "Found in a log"})
    assert ApiKey.objects.get().revoked_at is not None
    assert AuditEntry.objects.get(action="api_key.revoked").actor == operator


def test_key_is_found_by_the_digest_that_a_gateway_reports(admin, acme_key, acme_revoked_key):
    found = admin.get(page("apikey"), {"q": acme_key.digest}).context["cl"].queryset
    assert [key.pk for key in found] == [acme_key.api_key.pk]
    assert acme_key.secret not in admin.get(page("apikey", "change", acme_key.api_key.pk)).content.decode()


def test_new_service_token_is_shown_in_one_answer_only(admin, db):
    response = admin.post(page("servicetoken", "add"), {"name": "Gateway", "scopes": ["events:write"], "expires": ""})

    secret = re.search(r"kt-service-[\w-]{43}", response.content.decode())[0]
    token = ServiceToken.objects.get()
    assert token.digest == digest_of(secret)
    assert token.scopes == ["events:write"]
    assert "no-store" in response["Cache-Control"]
    assert secret not in str(response.cookies)
    assert secret not in str(admin.session.items())
    assert secret not in admin.get(page("servicetoken", "change", token.pk)).content.decode()
    assert secret not in admin.get(page("servicetoken")).content.decode()


def test_tokens_are_revoked_after_asking(admin, service_token, acme_access_token, api):
    for model, made in (("servicetoken", service_token), ("accesstoken", acme_access_token)):
        detail = reverse(f"admin:accounts_{model}_revoke_this", args=[made.token.pk])
        assert admin.get(detail).status_code == 200
        assert api(made.secret).get("/v1/api-keys?organisation=acme").status_code == 200
        admin.post(detail, {"confirmed": "yes"})
        assert api(made.secret).get("/v1/api-keys?organisation=acme").status_code == 401


def test_staff_without_permission_may_look_at_nothing(client_for, acme, olivia):
    User.objects.filter(pk=olivia.pk).update(is_staff=True)
    client = client_for(olivia)
    assert client.get(page("organisation")).status_code == 403
    assert client.post(page("servicetoken", "add"), {"name": "x"}).status_code == 403


def test_audit_entries_cannot_be_changed_or_deleted(admin, acme):
    entry = AuditEntry.objects.first()
    assert admin.get(reverse("admin:accounts_auditentry_delete", args=[entry.pk])).status_code == 403
    assert admin.get(reverse("admin:accounts_auditentry_add")).status_code == 403
