"""What `helm test` does from a pod that no policy of the release knows: nothing but the proxy may be reached from it.

TARGETS lists `name=host:port`, separated by spaces. Whether the cluster's network plugin enforces policies cannot be
asked from inside: EXPECT_ENFORCED says whether a target that is reached is a failure. Needs nothing but Python.
"""

import os
import socket
import sys
from collections.abc import Mapping

SECONDS = 3.0
TRIES = 3


def reached(host: str, port: int) -> str:
    """`REACHED` where a connection can be opened, else why not. The usual way to refuse is to drop packets."""
    found = "refused"
    for _ in range(TRIES):
        try:
            with socket.create_connection((host, port), SECONDS):
                return "REACHED"
        except socket.gaierror:
            found = "no name"
        except OSError:
            found = "refused"
    return found


def main(environ: Mapping[str, str]) -> int:
    enforced = environ.get("EXPECT_ENFORCED", "") == "true"
    opened = []
    for target in environ["TARGETS"].split():
        name, _, place = target.partition("=")
        host, _, port = place.rpartition(":")
        found = reached(host, int(port))
        opened += [name] * (found == "REACHED")
        sys.stdout.write(f"{found} {name} ({place})\n")
    if not opened:
        sys.stdout.write("None of them can be reached from a pod without the release's labels.\n")
        return 0
    if enforced:
        sys.stdout.write(f"FAILED  {', '.join(opened)}: reached, although policies are said to be enforced here.\n")
        return 1
    sys.stdout.write(
        "Network policies are not enforced here: anyone in the cluster reaches the above. Where they are,\n"
    )
    sys.stdout.write("set tests.expectEnforced to make this a failure.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
