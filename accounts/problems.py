"""Errors of the REST API as application/problem+json."""
