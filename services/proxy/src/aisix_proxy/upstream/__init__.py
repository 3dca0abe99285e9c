"""The proxy's own HTTP/1.1 client towards providers. Moves bytes; knows no wire, no dialect and no pipeline."""
