"""``python -m airflow_pipeops.demo.database FILE``: make Airflow's database, then import connections.

One process for both, since starting Airflow's command line is most of the work. It makes the database at once; when a line
arrives on standard input, the connections are in FILE, and it imports them.
"""

from __future__ import annotations

import sys


def main(connections: str) -> int:
    """Make the database and import the connections."""
    from airflow.cli.cli_parser import get_parser

    parser = get_parser()
    for command in (["db", "migrate"], ["connections", "import", connections]):
        if "import" in command and not sys.stdin.readline():
            return 1  # whoever wanted the connections has gone
        arguments = parser.parse_args(command)
        arguments.func(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
