"""Resources as one YAML file (control-plane 4): `loader` reads it, `export` writes it. Pure but for `loader.read_file`.

`layout` collections, identities and ids, `interpolation` variables, `sugar` names in place of ids, `crosscheck` rules
between rows, `report` what is wrong, `placeholders` and `writing` the way back. Knows nothing of etcd, signals or
services.
"""
