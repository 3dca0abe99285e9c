"""Who leads: the lead as the flows see it, the frame of leading, and the lock in the local etcd."""
