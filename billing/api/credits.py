"""Credit: what can be used now, each grant, its movements; for the operator's software, granting and taking back.

Decimals are text, in the currency's major unit.
"""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.api_pages import CursorPagination, idempotency_key, page_limit
from accounts.idempotency import perform_once
from accounts.models import Organisation, Scope
from accounts.problems import CONTENT_TYPE, Problem
from billing import crediting
from billing.api.parts import IDEMPOTENCY, ORGANISATION, REFUSALS, REFUSED, PlainDecimal
from billing.credit_statement import GrantState, GrantStatus, balances, grant_states, movements
from billing.models import CreditGrant, GrantKind, Invoice, LedgerKind, PrepaidTerms
from billing.prepaid import effective_balance

GRANT = {
    "id": "grant_7k2mcd4f9ghjk3npqrst",
    "kind": "promotional",
    "status": "usable",
    "reason": "Welcome",
    "amount": "250",
    "currency": "USD",
    "used": "12.4",
    "left": "237.6",
    "expired": "0",
    "reversed": "0",
    "priority": 10,
    "place": 1,
    "meters": ["input_tokens", "output_tokens"],
    "effective_at": "2026-11-01T00:00:00Z",
    "expires_at": "2027-11-01T00:00:00Z",
    "created_at": "2026-11-01T00:00:00Z",
}
NEW_GRANT = {
    "organisation": "org_7k2mcd4f9ghjk3npqrst",
    "kind": "promotional",
    "amount": "250",
    "currency": "USD",
    "reason": "Welcome",
    "priority": 10,
    "meters": ["input_tokens", "output_tokens"],
    "expires_at": "2027-11-01T00:00:00Z",
}
PREPAID = {
    "currency": "USD",
    "booked": "237.6",
    "unbilled": "30.125",
    "set_aside": "0",
    "held": "0.75",
    "effective": "206.725",
    "overdraft": "0",
    "spendable": "206.725",
}
CREDIT = {
    "balances": [{"currency": "USD", "usable": "237.6", "coming": "0"}],
    "prepaid": PREPAID,
    "items": [GRANT],
    "next_cursor": None,
}
MOVEMENT = {
    "number": 2,
    "kind": "used",
    "at": "2026-12-01T01:00:04Z",
    "amount": "-12.4",
    "left_after": "237.6",
    "invoice": "KT-2026-00042",
}
# Those that come with a plan are billing's own.
GIVEN = [GrantKind.MANUAL.value, GrantKind.PROMOTIONAL.value, GrantKind.PURCHASED.value]


class BalanceOutput(serializers.Serializer):
    currency = serializers.CharField()
    usable = PlainDecimal(help_text="What can be used now.")
    coming = PlainDecimal(help_text="What can be used later.")


class PrepaidOutput(serializers.Serializer):
    """effective = booked - unbilled - set_aside - held."""

    currency = serializers.CharField()
    booked = PlainDecimal(help_text="Left of grants that can be used now.")
    unbilled = PlainDecimal(help_text="What open bills come to.")
    set_aside = PlainDecimal(help_text="Credit for certain meters, while other charges are covered by none.")
    held = PlainDecimal(help_text="For calls in flight.")
    effective = PlainDecimal(help_text="Below zero where more was used than credit pays for.")
    overdraft = PlainDecimal(help_text="How far below zero calls may go.")
    spendable = PlainDecimal(help_text="What new calls may still cost; at zero they are refused.")


class GrantOutput(serializers.Serializer):
    """amount = used + left + expired + reversed."""

    id = serializers.CharField(source="grant.public_id")
    kind = serializers.ChoiceField(choices=GrantKind.values, source="grant.kind")
    status = serializers.ChoiceField(choices=[status.value for status in GrantStatus])
    reason = serializers.CharField(source="grant.reason")
    amount = PlainDecimal(source="grant.amount")
    currency = serializers.CharField(source="grant.currency")
    used = PlainDecimal(help_text="By invoices.")
    left = PlainDecimal()
    expired = PlainDecimal()
    reversed = PlainDecimal(help_text="Taken back.")
    priority = serializers.IntegerField(source="grant.priority", help_text="Smaller is used first.")
    place = serializers.IntegerField(
        help_text="In the order in which those of its currency are used, from 1; 0 where it cannot be used now."
    )
    meters = serializers.ListField(
        child=serializers.CharField(), source="grant.meters", help_text="It pays only for these; empty: for everything."
    )
    effective_at = serializers.DateTimeField(source="grant.effective_at")
    expires_at = serializers.DateTimeField(source="grant.expires_at", allow_null=True)
    created_at = serializers.DateTimeField(source="grant.created_at")


class CreditOutput(serializers.Serializer):
    balances = BalanceOutput(many=True)
    prepaid = PrepaidOutput(allow_null=True, help_text="Null for organisations that are billed after use.")
    items = GrantOutput(many=True, help_text="A page of grants, newest first.")
    next_cursor = serializers.CharField(allow_null=True)


class MovementOutput(serializers.Serializer):
    number = serializers.IntegerField(help_text="Counted from 1 for each grant.")
    kind = serializers.ChoiceField(choices=LedgerKind.values, source="entry.transaction.kind")
    at = serializers.DateTimeField(source="entry.transaction.at")
    amount = PlainDecimal(source="entry.amount", help_text="Below zero where it left the grant.")
    left_after = PlainDecimal(source="entry.left_after")
    invoice = serializers.SerializerMethodField(help_text="Number of the invoice that it paid.")

    def get_invoice(self, movement: dict[str, Any]) -> str | None:
        invoice: Invoice | None = movement["entry"].transaction.invoice
        return invoice.number if invoice else None


class MovementsOutput(serializers.Serializer):
    items = MovementOutput(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class GrantInput(serializers.Serializer):
    kind = serializers.ChoiceField(choices=GIVEN)
    amount = serializers.DecimalField(max_digits=30, decimal_places=18, help_text="In the currency's major unit.")
    currency = serializers.CharField(min_length=3, max_length=3)
    reason = serializers.CharField(max_length=crediting.LONGEST_REASON, help_text="The customer reads it.")
    priority = serializers.IntegerField(min_value=0, max_value=crediting.LAST_PRIORITY, default=100)
    meters = serializers.ListField(child=serializers.CharField(max_length=63), default=list, max_length=100)
    effective_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Now unless given.")
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Never unless given.")


REFUSED_WRITES = {**REFUSALS, (409, CONTENT_TYPE): REFUSED, (422, CONTENT_TYPE): REFUSED}
ONE = OpenApiResponse(GrantOutput, "The grant", [OpenApiExample("A grant", GRANT, response_only=True)])
REPLAYED = OpenApiResponse(GrantOutput, "Granted before, by the same request")


class CreditView(GenericAPIView):
    queryset = CreditGrant.objects.none()
    pagination_class = CursorPagination

    def state(self, organisation: Organisation, public_id: str) -> GrantState:
        """Another organisation's grant does not exist."""
        for state in grant_states(organisation, timezone.now()):
            if state.grant.public_id == public_id:
                return state
        raise Problem(404, "not_found", "There is no such grant.")

    def answer(self, organisation: Organisation, public_id: str, status: int = 200) -> Response:
        return Response(GrantOutput(self.state(organisation, public_id)).data, status=status)


class Credits(CreditView):
    required_scopes = {"GET": Scope.BILLING_READ, "POST": Scope.CREDITS_WRITE}
    serializer_class = GrantOutput

    @extend_schema(
        operation_id="get_credit",
        summary="Credit: the balance, and every grant",
        tags=["Billing"],
        filters=True,
        parameters=[ORGANISATION],
        responses={200: OpenApiResponse(CreditOutput, "Credit", [OpenApiExample("Credit", CREDIT)]), **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        now = timezone.now()
        states = grant_states(organisation, now)
        terms = PrepaidTerms.objects.filter(organisation=organisation).first()
        by_key = {state.grant.pk: state for state in states}
        page = self.paginate_queryset(CreditGrant.objects.for_organisation(organisation))
        assert isinstance(self.paginator, CursorPagination)
        credit = {
            "balances": balances(states),
            "prepaid": effective_balance(organisation, terms.currency, now) if terms else None,
            "items": [by_key[grant.pk] for grant in page or ()],
            "next_cursor": self.paginator.next_cursor,
        }
        return Response(CreditOutput(credit).data)

    @extend_schema(
        operation_id="grant_credit",
        summary="Grant credit",
        description="For the operator's own software, with a service token.",
        tags=["Billing"],
        parameters=[ORGANISATION, IDEMPOTENCY],
        request=GrantInput,
        responses={201: ONE, 200: REPLAYED, **REFUSED_WRITES},
        examples=[OpenApiExample("A welcome", NEW_GRANT, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        wanted = validated(GrantInput, request)
        terms = wanted | {"currency": wanted["currency"].upper()}
        by: dict[str, Any] = {"actor": caller_of(request).label, "request": request._request}
        done = perform_once(
            organisation,
            operation="credit.granted",
            key=idempotency_key(request),
            asked=terms,
            perform=lambda: crediting.grant_credit(organisation, now=timezone.now(), **terms, **by),
            identify=lambda grant: grant.public_id,
        )
        return self.answer(organisation, done.result_id, 201 if done.result else 200)


class OneCredit(CreditView):
    required_scopes = Scope.BILLING_READ
    serializer_class = GrantOutput

    @extend_schema(
        operation_id="get_credit_grant",
        summary="Get a grant of credit",
        tags=["Billing"],
        parameters=[ORGANISATION],
        responses={200: ONE, **REFUSALS},
    )
    def get(self, request: Request, public_id: str) -> Response:
        return self.answer(resolve_organisation(request), public_id)


class CreditMovements(CreditView):
    required_scopes = Scope.BILLING_READ
    serializer_class = MovementOutput

    @extend_schema(
        operation_id="list_credit_movements",
        summary="List the movements of a grant",
        description="Oldest first. Each is booked once and never changes.",
        tags=["Billing"],
        filters=True,
        parameters=[
            ORGANISATION,
            OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
        ],
        responses={
            200: OpenApiResponse(
                MovementsOutput, "A page", [OpenApiExample("Movements", {"items": [MOVEMENT], "next_cursor": None})]
            ),
            **REFUSALS,
        },
    )
    def get(self, request: Request, public_id: str) -> Response:
        organisation = resolve_organisation(request)
        self.state(organisation, public_id)
        grants = CreditGrant.objects.for_organisation(organisation).filter(public_id=public_id)
        limit, after = page_limit(request), _movement_number(request)
        # Numbers only grow, so that a place in the list is a place for ever.
        found = list(movements(grants).order_by("pk")[after : after + limit + 1])
        numbered = [{"number": number, "entry": entry} for number, entry in enumerate(found[:limit], after + 1)]
        page = {"items": numbered, "next_cursor": str(after + limit) if len(found) > limit else None}
        return Response(MovementsOutput(page).data)


class CreditReversal(CreditView):
    required_scopes = {"POST": Scope.CREDITS_WRITE}
    serializer_class = GrantOutput

    @extend_schema(
        operation_id="reverse_credit",
        summary="Take back what is left of a grant",
        description="For the operator's own software, with a service token. What was used stays used.",
        tags=["Billing"],
        parameters=[ORGANISATION, IDEMPOTENCY],
        request=None,
        responses={200: ONE, **REFUSED_WRITES},
    )
    def post(self, request: Request, public_id: str) -> Response:
        organisation = resolve_organisation(request)
        grant = self.state(organisation, public_id).grant
        by: dict[str, Any] = {"actor": caller_of(request).label, "request": request._request}
        perform_once(
            organisation,
            operation="credit.reversed",
            key=idempotency_key(request),
            asked={"grant": public_id},
            perform=lambda: crediting.reverse_grant(grant, now=timezone.now(), **by),
            identify=lambda taken: public_id,
        )
        return self.answer(organisation, public_id)


def _movement_number(request: Request) -> int:
    text = request.query_params.get("cursor", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Problem(400, "invalid_cursor", "That cursor does not belong to this list.")
    return int(text)
