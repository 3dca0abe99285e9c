"""Our own types between what clients speak (dialects) and what providers speak (wires). Pure: no I/O, no clock."""
