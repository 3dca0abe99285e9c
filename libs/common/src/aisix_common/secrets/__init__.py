"""Secrets of resources: sealed at rest, and referenced where they stay in the user's own manager (design 7).

`envelope` the keyring and the sealed text, `rows` sealing and opening what a resource holds, `reference` the grammar of
references, `environment` what `$env://` may read, `providers` the managers named in config.yaml. Pure but for
`keyring_files`, which reads and watches the keys.
"""
