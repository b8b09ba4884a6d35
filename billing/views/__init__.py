"""The pages of billing, one module per noun."""
