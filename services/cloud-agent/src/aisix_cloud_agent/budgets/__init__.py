"""The Cloud's word on caller keys that are in use, for the proxies."""
