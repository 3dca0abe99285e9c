"""What of the agent lies in Kubernetes: the bundle in a Secret, the lead by a Lease. Loaded when settings name one."""
