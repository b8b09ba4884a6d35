"""The REST API of accounts, a module per thing that can be asked for; see `accounts.api_urls` for the addresses."""
