"""Who bills are made out to."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from accounts.access import MemberRequest, member_required
from accounts.models import Capability
from accounts.pages import render_page
from billing.forms import BillingDetailsForm
from billing.models import BillingDetails
from billing.payers import update_billing_details


@member_required(Capability.MANAGE_BILLING)
def billing_details(request: MemberRequest) -> HttpResponse:
    details = BillingDetails.objects.filter(organisation=request.organisation).first()
    initial = None if details else {"legal_name": request.organisation.name, "email": request.user.email}
    form = BillingDetailsForm(request.POST or None, instance=details, initial=initial)
    if request.method == "POST" and form.is_valid():
        update_billing_details(request.organisation, form.cleaned_data, actor=request.user, request=request)
        messages.success(request, "Saved. Future invoices will carry these details.")
        return redirect("billing:plan", slug=request.organisation.slug)
    status = 422 if form.is_bound else 200
    return render_page(request, "billing/billing_details.html", {"form": form, "active_nav": "plan"}, status=status)
