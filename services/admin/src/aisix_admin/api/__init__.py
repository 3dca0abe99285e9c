"""The HTTP side of the admin: routes as values, one generic set of handlers for every kind, one place for errors."""
