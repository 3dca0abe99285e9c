"""Usage events from the outbox to the Cloud."""
