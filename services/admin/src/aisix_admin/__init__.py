"""The admin service: the API by which operators and their tools write resources into etcd."""
