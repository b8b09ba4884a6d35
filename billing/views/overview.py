"""The overview: an organisation's consumption as a smart meter shows it, or, before there is any, what to do first."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.models import AccessToken, ApiKey, Organisation, Scope
from accounts.pages import render_page
from billing import forecasting, invoicing, schedules
from billing.consumption import Consumption, consumption, daily_chart
from billing.models import Invoice, Price, Subscription
from billing.periods import Period, period_containing_month
from billing.subscribing import current_subscription
from metering import reports

LATEST_INVOICES = 4
CHART_DAYS = 14
