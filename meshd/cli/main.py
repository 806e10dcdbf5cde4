"""meshctl: the group, its global options, and the one mapping from errors to exit codes."""

import sys
from importlib import import_module

import click

from meshd.cli.output import note
from meshd.cli.target import Refused, Target, Unreachable
from registry.errors import RegistryError, Unavailable

# command -> module; a command's module is imported only when it runs or its help is asked for
COMMANDS = {
    "status": "status",
    "services": "services",
    "service": "services",
    "apply": "documents",
    "get": "documents",
    "delete": "documents",
    "explain": "explain",
    "cert": "cert",
    "proxy": "proxy",
    "token": "token",
    "ca": "ca",
    "registry": "registry",
    "doctor": "doctor",
}

EXIT_REFUSED, EXIT_UNREACHABLE = 1, 75


class Lazy(click.Group):
    """Loads a noun's module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"meshd.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--api", metavar="URL|SOCKET", help="meshd to ask (default: $MESHD_API, then /run/meshd/api.sock)")
@click.option("--token-file", metavar="FILE", help="operator or store token (default: $MESHD_TOKEN_FILE)")
@click.version_option(package_name="meshd", prog_name="meshctl")
@click.pass_context
def cli(ctx: click.Context, api: str | None, token_file: str | None) -> None:
    """See and change a meshd service mesh.

    \b
    Examples:
      meshctl status
      meshctl apply -f api-intentions.yaml --wait
      meshctl explain --from web --to api --path /admin --method POST
      meshctl --api http://127.0.0.1:15500 services -o json

    Exit status: 0 ok, 1 refused or not in force, 2 usage, 75 meshd or registry not reachable, 78 bad configuration.
    """
    ctx.obj = lambda: Target.find(api, token_file)


def explain_refusal(error: Refused) -> None:
    note(f"meshctl: refused: {error.error}" + (f" (field {error.field})" if error.field else ""))
    for problem in error.body.get("problems", ()):
        place = ":".join(str(part) for part in (problem.get("line"), problem.get("path")) if part)
        note(f"  {problem.get('document', '')}{' ' + place if place else ''}: {problem.get('reason', '')}")
        if problem.get("hint"):
            note(f"    hint: {problem['hint']}")
    if error.hint:
        note(f"  hint: {error.hint}")


def main() -> None:
    """Console entry point."""
    try:
        code = cli(standalone_mode=False, prog_name="meshctl")
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except Refused as error:
        explain_refusal(error)
        code = EXIT_REFUSED
    except Unreachable as error:
        note(f"meshctl: {error}")
        note(f"  hint: {error.hint}")
        code = EXIT_UNREACHABLE
    except RegistryError as error:
        note(f"meshctl: {error}")
        code = EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_REFUSED
    except BrokenPipeError:
        # the reader (head, less) has gone: nothing more to say
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
