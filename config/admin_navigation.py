"""What the sidebar of the admin lists, by subject. What is reached from another page only is left out."""

from django.urls import reverse_lazy


def _links(*links: tuple[str, str, str]) -> list[dict[str, object]]:
    """(title, symbol, model's address): what the sidebar lists."""
    return [
        {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{model}_changelist")}
        for title, icon, model in links
    ]


ADMIN_NAVIGATION = [
    {
        "items": [
            {"title": "Cockpit", "icon": "speed", "link": reverse_lazy("admin:index")},
            *_links(("Organisations", "domain", "accounts_organisation")),
        ]
    },
    {
        "title": "Metering",
        "items": _links(
            ("Meters", "straighten", "metering_meter"),
            ("Batches", "inventory_2", "metering_ingestbatch"),
            ("Rejected events", "report", "metering_rejectedevent"),
            ("Usage files", "upload_file", "metering_usageimport"),
            ("Backfills", "update", "metering_meterbackfill"),
            ("Bounded series", "compress", "metering_serieslimit"),
            ("Comparisons", "balance", "metering_totalscheck"),
            ("Limits", "speed", "metering_quota"),
            ("Refused calls", "block", "metering_denial"),
            ("Limit checks", "balance", "metering_counterscheck"),
            ("When unreachable", "cloud_off", "metering_admissionsettings"),
            ("Dropped months", "delete_sweep", "metering_droppedmonth"),
        ),
    },
    {
        "title": "Billing",
        "items": _links(
            ("Subscriptions", "event_repeat", "billing_subscription"),
            ("Invoices", "receipt_long", "billing_invoice"),
            ("Credit", "savings", "billing_creditgrant"),
            ("Credit ledger", "account_balance", "billing_ledgertransaction"),
            ("Credit checks", "balance", "billing_creditscheck"),
            ("Plans", "sell", "billing_plan"),
            ("Plan moves", "move_down", "billing_planmove"),
            ("Coupons", "redeem", "billing_coupon"),
            ("Price book", "menu_book", "billing_price"),
            ("Price proposals", "rule", "billing_priceproposal"),
            ("Price corrections", "history", "billing_pricecorrection"),
            ("Margins", "percent", "billing_marginday"),
        ),
    },
    {
        "title": "Stripe",
        "items": _links(
            ("Pushes", "outbox", "billing_stripeinvoice"),
            ("Credit purchases", "shopping_cart", "billing_creditpurchase"),
            ("Events", "inbox", "billing_stripeevent"),
            ("Customers", "badge", "billing_stripecustomer"),
        ),
    },
    {
        "title": "Access",
        "items": _links(
            ("Users", "person", "accounts_user"),
            ("API keys", "key", "accounts_apikey"),
            ("Service tokens", "vpn_key", "accounts_servicetoken"),
            ("Access tokens", "token", "accounts_accesstoken"),
            ("Invitations", "mail", "accounts_invitation"),
            ("Audit log", "history", "accounts_auditentry"),
        ),
    },
]
