"""The Cloud's configuration into the local etcd: a pure planner, and the loop that commits what it plans."""
