"""The REST API of billing, a module per thing that can be asked for; see `billing.api_urls` for the addresses."""
