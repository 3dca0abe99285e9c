"""The proxy's own HTTP/1.1 client towards providers. Moves bytes; knows no wire, no dialect and no pipeline.

`client` the two ways in (send, open) · `head` requests to bytes (pure) · `pool` kept connections · `dial` new ones ·
`trust` TLS contexts · `connection` one socket and its timer · `reply` one answer's state and bounds · `coding` unasked
gzip (pure) · `retry` when a target is tried again (pure).
"""
