"""Rows that operators look at and act on, but never edit: the base of most admin pages, in every app."""

from typing import Any

from django.contrib.admin.options import ActionLocation
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from accounts.models import User


class OperatorAdmin(ModelAdmin):
    """The theme's admin, with the choice of actions as Django asks for it."""

    def get_action_choices(
        self,
        request: HttpRequest,
        default_choices: list[tuple[str, str]] | None = None,
        action_location: ActionLocation = ActionLocation.CHANGE_LIST,
    ) -> list[tuple[str, str]]:
        """Past the theme's, whose signature Django has deprecated; with its words."""
        words = default_choices or [("", "Select action")]
        return super(ModelAdmin, self).get_action_choices(request, words, action_location)


class ReadOnlyAdmin(OperatorAdmin):
    """Rows may be looked at; what may be done to them are actions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the operator may run this model's actions: those who might change its rows."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    tab = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class PagedInline(ReadOnlyInline):
    """For rows that grow without end."""

    per_page = 20


def operator_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
