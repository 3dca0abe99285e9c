"""`python -m deploy.local`, which is `make run`. A module of its own: Ctrl-C may come while run.py is imported."""

import sys

if __name__ == "__main__":
    try:
        from .run import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
