"""`python -m aisix_cloud_agent`: says that managed mode is not in this version, and exits 1.

The distribution exists so that names, packaging and import contracts hold from the beginning; it does nothing yet, and
says so instead of pretending to run.
"""

import sys

from aisix_common.version import VERSION


def main() -> int:
    """Returns the process exit code: 0 for --version, else 1."""
    if "--version" in sys.argv[1:]:
        sys.stdout.write(f"aisix-cloud-agent {VERSION}\n")
        return 0
    sys.stderr.write(
        "Error: managed mode is not in this version; run a self-hosted gateway with `aisix --config FILE`\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
