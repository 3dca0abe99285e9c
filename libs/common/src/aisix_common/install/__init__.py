"""What an installation needs once or now and then, run as jobs of the Helm chart (`python -m aisix_common.install`):
secrets that must be made before anything starts, etcd's users and roles, its care, its backups.

Small on purpose: the standard library, `cryptography`, and what this package says of keys and settings. No shell, no
Kubernetes client, nothing of a service.
"""
