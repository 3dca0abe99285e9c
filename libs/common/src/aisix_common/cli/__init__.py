"""The `aisix` command: `__main__` reads the command line, `services` says what runs, `supervisor` keeps it running,
`notes` is its voice. Imports neither a service nor anything that opens sockets: it starts in a moment and stays small.
"""
