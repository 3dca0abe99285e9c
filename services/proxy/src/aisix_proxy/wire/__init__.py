"""Framing and the JSON languages that dialects and providers both speak. Pure: bytes in, values out."""
