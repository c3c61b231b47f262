"""The command ``matterstack``, also ``python -m matterstack``; it imports the rest late, and hears Ctrl-C then."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; see `matterstack.cli.main`."""
    try:
        from matterstack import cli

        return cli.main()
    except KeyboardInterrupt:  # before there is a command that could say what that means
        print("matterstack: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
