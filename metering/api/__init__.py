"""The REST API of metering, a module per noun."""
