"""The command line of `meshd`."""

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """`run`, `dev` and `config show`; each has `config` (a file or None) and `set`."""
    root = argparse.ArgumentParser(prog="meshd", description="The control process of one host of the mesh.")
    commands = root.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run this host of a mesh")
    develop = commands.add_parser("dev", help="a mesh of one host, without configuration, open to every local user")
    develop.set_defaults(config=None)
    config = commands.add_parser("config", help="the configuration as it would be in force")
    show = config.add_subparsers(dest="action", required=True).add_parser("show", help="print every effective setting")
    show.add_argument("--origin", action="store_true", help="also where each comes from: default, file, variable, flag")
    show.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for command in (run, show):
        command.add_argument("--config", type=Path, metavar="FILE")
    for command in (run, develop, show):
        command.add_argument("--set", action="append", default=[], metavar="A.B=C", help="overrides the file")
    return root
