"""The pages of metering, a module per noun."""
