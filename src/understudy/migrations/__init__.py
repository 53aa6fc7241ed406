"""Revisions of the database's schema, applied in order when a service starts."""
