"""`python -m deploy.local` is `make run`, `python -m deploy.local managed` is `make run-managed`. A module of its own:
Ctrl-C may come while the others are imported."""

import sys
from importlib import import_module

if __name__ == "__main__":
    try:
        chosen = "managed" if sys.argv[1:] == ["managed"] else "run"
        sys.exit(import_module(f"deploy.local.{chosen}").main())
    except KeyboardInterrupt:
        sys.exit(130)
