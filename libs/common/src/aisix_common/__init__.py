"""What the services of the gateway must agree on, and nothing that is shared by accident."""
