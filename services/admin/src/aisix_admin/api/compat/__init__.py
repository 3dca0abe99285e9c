"""The older admin dialect, `/aisix/admin/{models,apikeys}`: other shapes and statuses for the same resources.

Documents are translated at the door (`apikeys`, `models`) and written by the one store behind all dialects.
"""
