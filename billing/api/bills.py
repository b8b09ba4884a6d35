"""The running bill and the invoices, for whoever reconciles them with their own books.

Decimals are text; amounts owed are whole minor units beside their currency. Read only.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import resolve_organisation
from accounts.api_pages import CursorPagination
from accounts.models import Organisation, Scope
from accounts.problems import Problem
from billing.api.parts import ORGANISATION, REFUSALS, PlainDecimal
from billing.invoicing import running_bill
from billing.models import Invoice
from billing.project_names import project_names, project_of
from billing.subscribing import current_subscription

LINE = {
    "kind": "usage",
    "description": "gpt-oss-120b, input tokens",
    "meter": "input_tokens",
    "model": "gpt-oss-120b",
    "project": None,
    "quantity": "18059974",
    "included": "0",
    "billable": "18059974",
    "unit_price": "0.15",
    "scale": "1000000",
    "amount_exact": "2.7089961",
    "amount_minor": 271,
    "explanation": "18,059,974 input tokens × $0.15 per 1,000,000 = $2.7089961",
    "price_ids": ["price_7k2mcd4f9ghjk3npqrst"],
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
}
BILL = {
    "plan": "Pay as you go",
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
    "cutoff": "2026-11-22T17:50:00Z",
    "currency": "USD",
    "total_exact": "2.7089961",
    "total_minor": 271,
    "lines": [LINE],
    "expected": [],
    "unpriced": [],
    "not_charged": [
        {
            "meter": "requests",
            "model": "gpt-oss-120b",
            "quantity": "8819",
            "period_start": "2026-11-01T00:00:00Z",
            "period_end": "2026-12-01T00:00:00Z",
        }
    ],
}
INVOICE = {
    "number": "KT-2026-00042",
    "id": "inv_7k2mcd4f9ghjk3npqrst",
    "state": "pushed",
    "plan": "Pay as you go",
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
    "currency": "USD",
    "total_exact": "2.7089961",
    "total_minor": 271,
    "amount_paid_minor": 0,
    "finalised_at": "2026-12-01T01:00:04Z",
    "due_at": "2026-12-15T01:00:04Z",
    "paid_at": None,
}
WHOLE_INVOICE = {
    **INVOICE,
    "lines": [LINE],
    "parties": {"seller": {"name": "Kilotoken"}, "buyer": {"name": "Acme GmbH"}},
    "evidence": {"format": 1, "cutoff": "2026-12-01T01:00:04Z", "digest": "9f2a…"},
}


class LineProjectOutput(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField(help_text="As it is called today; the description has the name of its time.")


class LineOutput(serializers.Serializer):
    """Made with `line_context`."""

    kind = serializers.CharField(
        help_text="`flat_fee`, `usage`, `commitment`, `discount`, `adjustment`, `credit`, `carry_over` or `owed`."
    )
    description = serializers.CharField()
    meter = serializers.CharField(help_text="Empty where the line belongs to none.")
    model = serializers.CharField(help_text="Empty where the line belongs to none.")
    project = serializers.SerializerMethodField(help_text="Null unless the plan keeps lines apart by project.")
    quantity = PlainDecimal(allow_null=True)
    included = PlainDecimal(allow_null=True, help_text="Of the quantity, covered by an allowance.")
    billable = PlainDecimal(allow_null=True)
    unit_price = PlainDecimal(allow_null=True, help_text="For `scale` units; null where there is not one price.")
    scale = PlainDecimal(allow_null=True)
    amount_exact = PlainDecimal(help_text="In the major unit, before the one rounding.")
    amount_minor = serializers.IntegerField(help_text="The line's share of the rounded total.")
    explanation = serializers.CharField()
    price_ids = serializers.ListField(child=serializers.CharField())
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()

    @extend_schema_field(LineProjectOutput(allow_null=True))
    def get_project(self, line: Any) -> dict[str, str] | None:
        project = project_of(line)
        if not project:
            return None
        names: Mapping[str, str] = self.context["project_names"]()
        return {"id": project, "name": names.get(project, project)}


def line_context(organisation: Organisation) -> dict[str, Any]:
    """What lines are written with; looks names up only where a line is of a project, and once."""
    return {"project_names": cache(lambda: project_names(organisation))}


class ReadingOutput(serializers.Serializer):
    meter = serializers.CharField()
    model = serializers.CharField()
    quantity = PlainDecimal()
    period_start = serializers.DateTimeField(source="start")
    period_end = serializers.DateTimeField(source="end")


class BillOutput(serializers.Serializer):
    """The current period so far."""

    plan = serializers.CharField(source="version.plan.name")
    period_start = serializers.DateTimeField(source="period.start")
    period_end = serializers.DateTimeField(source="period.end")
    cutoff = serializers.DateTimeField(help_text="What was counted by then is in the figures.")
    currency = serializers.CharField()
    total_exact = PlainDecimal()
    total_minor = serializers.IntegerField()
    lines = LineOutput(many=True)
    expected = LineOutput(
        many=True, help_text="Minimums that closing would add if nothing more were used; not in the total."
    )
    unpriced = ReadingOutput(many=True, help_text="Usage that the plan charges and that has no price yet.")
    not_charged = ReadingOutput(many=True, source="uncovered", help_text="Usage that is not part of the plan.")


class InvoiceOutput(serializers.Serializer):
    number = serializers.CharField()
    id = serializers.CharField(source="public_id")
    state = serializers.CharField(help_text="`finalised`, `pushed` (open), `paid`, `void` or `uncollectible`.")
    plan = serializers.CharField(source="plan_name")
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    currency = serializers.CharField()
    total_exact = PlainDecimal()
    total_minor = serializers.IntegerField()
    amount_paid_minor = serializers.IntegerField()
    finalised_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField()
    paid_at = serializers.DateTimeField(allow_null=True)


class WholeInvoiceOutput(InvoiceOutput):
    lines = LineOutput(many=True)
    parties = serializers.JSONField(help_text="Seller and buyer as they were.")
    evidence = serializers.JSONField(help_text="Readings and prices the figures rest on, and a digest over all of it.")


class RunningBill(GenericAPIView):
    required_scopes = Scope.BILLING_READ
    serializer_class = BillOutput

    @extend_schema(
        operation_id="get_bill",
        summary="The running bill",
        description="What closing the current period now would put on the invoice, by the same calculation.",
        tags=["Billing"],
        parameters=[ORGANISATION],
        responses={200: OpenApiResponse(BillOutput, "The bill", [OpenApiExample("A bill", BILL)]), **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        now = timezone.now()
        organisation = resolve_organisation(request)
        subscription = current_subscription(organisation, now)
        if subscription is None:
            raise Problem(404, "no_subscription", "There is no plan, so there is no bill.")
        bill = BillOutput(running_bill(subscription, now), context=line_context(organisation))
        return Response(bill.data)


class InvoiceView(GenericAPIView):
    required_scopes = Scope.BILLING_READ
    queryset = Invoice.objects.none()
    pagination_class = CursorPagination

    def invoices_of(self, request: Request) -> QuerySet[Invoice]:
        rows: QuerySet[Invoice] = Invoice.objects.for_organisation(resolve_organisation(request))
        return rows


class Invoices(InvoiceView):
    serializer_class = InvoiceOutput

    @extend_schema(
        operation_id="list_invoices",
        summary="List invoices",
        tags=["Billing"],
        parameters=[ORGANISATION],
        responses={200: OpenApiResponse(InvoiceOutput(many=True), "A page of invoices, newest first"), **REFUSALS},
        examples=[OpenApiExample("Invoices", INVOICE, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.invoices_of(request).defer("evidence", "parties"))
        return self.get_paginated_response(InvoiceOutput(rows, many=True).data)


class OneInvoice(InvoiceView):
    serializer_class = WholeInvoiceOutput

    @extend_schema(
        operation_id="get_invoice",
        summary="Get an invoice with its lines and evidence",
        tags=["Billing"],
        parameters=[ORGANISATION],
        responses={
            200: OpenApiResponse(WholeInvoiceOutput, "The invoice", [OpenApiExample("An invoice", WHOLE_INVOICE)]),
            **REFUSALS,
        },
    )
    def get(self, request: Request, number: str) -> Response:
        invoice = self.invoices_of(request).prefetch_related("lines").filter(number=number).first()
        if invoice is None:
            raise Problem(404, "not_found", "There is no such invoice.")
        return Response(WholeInvoiceOutput(invoice, context=line_context(invoice.organisation)).data)
