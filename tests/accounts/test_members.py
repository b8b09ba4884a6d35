"""Roles and membership: an organisation always has an owner, whoever does what at the same moment."""

import pytest

from accounts.memberships import LastOwner, OwnersOnly, change_role, leave, remove_member
from accounts.models import AuditEntry, Membership, Role
from tests import factories
from tests.accounts.threads import at_once


def membership(user) -> Membership:
    return Membership.objects.select_related("organisation", "user").get(user=user)


@pytest.fixture
def adam(acme):
    """Admin at acme."""
    user = factories.user("adam@acme.example")
    factories.member(acme, user, Role.ADMIN)
    return user


def test_role_changes_and_is_audited(acme, olivia, vera):
    changed = change_role(membership(vera), Role.BILLING, actor=olivia)

    assert changed.role == membership(vera).role == "billing"
    entry = AuditEntry.objects.get(action="member.role_changed")
    assert entry.details == {"role": ["viewer", "billing"]}
    assert (entry.actor, entry.subject_label) == (olivia, vera.email)


def test_same_role_is_no_change(acme, olivia, vera):
    change_role(membership(vera), Role.VIEWER, actor=olivia)
    assert not AuditEntry.objects.filter(action="member.role_changed").exists()


def test_last_owner_can_neither_leave_nor_be_removed_nor_demoted(acme, olivia, operator):
    with pytest.raises(LastOwner):
        leave(acme, olivia)
    with pytest.raises(LastOwner):
        remove_member(membership(olivia), actor=operator)
    with pytest.raises(LastOwner):
        change_role(membership(olivia), Role.ADMIN, actor=olivia)
    assert membership(olivia).role == "owner"


def test_owner_leaves_once_there_is_another(acme, olivia, vera):
    change_role(membership(vera), Role.OWNER, actor=olivia)
    leave(acme, olivia)

    assert list(acme.memberships.values_list("user__email", "role")) == [(vera.email, "owner")]
    assert AuditEntry.objects.get(action="member.left").actor == olivia


def test_admin_touches_no_owner_and_makes_none(acme, adam, olivia, vera):
    change_role(membership(vera), Role.OWNER, actor=olivia)
    with pytest.raises(OwnersOnly):
        change_role(membership(vera), Role.VIEWER, actor=adam)
    with pytest.raises(OwnersOnly):
        change_role(membership(adam), Role.OWNER, actor=adam)
    with pytest.raises(OwnersOnly):
        remove_member(membership(vera), actor=adam)
    change_role(membership(vera), Role.VIEWER, actor=olivia)
    change_role(membership(vera), Role.DEVELOPER, actor=adam)


def test_removing_somebody_twice_removes_once(acme, olivia, vera):
    gone = membership(vera)
    remove_member(gone, actor=olivia)
    remove_member(gone, actor=olivia)
    leave(acme, vera)

    assert not Membership.objects.filter(user=vera).exists()
    assert AuditEntry.objects.filter(action="member.removed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_leaving_at_once_one_stays(acme, olivia, vera):
    change_role(membership(vera), Role.OWNER, actor=olivia)
    for _ in range(5):
        done = at_once(lambda: leave(acme, olivia), lambda: leave(acme, vera))

        assert sorted(type(one).__name__ for one in done) == ["LastOwner", "NoneType"]
        assert acme.memberships.filter(role=Role.OWNER).count() == 1
        left = next(user for user in (olivia, vera) if not user.memberships.exists())
        factories.member(acme, left, Role.OWNER)


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_demoting_each_other_at_once_one_stays(acme, olivia, vera):
    change_role(membership(vera), Role.OWNER, actor=olivia)
    hers, his = membership(olivia), membership(vera)
    done = at_once(
        lambda: change_role(his, Role.VIEWER, actor=olivia), lambda: change_role(hers, Role.VIEWER, actor=vera)
    )

    assert sum(isinstance(one, (LastOwner, OwnersOnly)) for one in done) == 1
    assert acme.memberships.filter(role=Role.OWNER).count() == 1
