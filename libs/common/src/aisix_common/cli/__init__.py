"""The `aisix` command: `__main__` reads the command line, `services` says what runs, `supervisor` keeps it running,
`notes` is its voice, `local_key` the key it makes; `validate`, `export` and `secrets` are commands of their own.
Running imports neither a service nor anything that opens sockets: it starts in a moment and stays small. What the
other commands need is imported only for them.
"""
