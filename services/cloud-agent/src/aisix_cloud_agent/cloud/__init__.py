"""The link to the Cloud: which session is in force, and what a session is made of."""
