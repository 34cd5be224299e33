"""The table of verbs, and the one place where errors become two lines on stderr and exit code 2.

A verb of a domain joins through the entry-point group `eyespot.verbs` (a function or a Typer application), so that
this file need not know it.
"""

import sys
from importlib.metadata import entry_points

import typer

from eyespot.cli.chat import chat
from eyespot.cli.console import fail
from eyespot.cli.convert import build, convert, export, merge, seal
from eyespot.cli.doctor import doctor
from eyespot.cli.evaluate import evaluate
from eyespot.cli.explain import explain
from eyespot.cli.inspect.batch import batch
from eyespot.cli.inspect.data import data
from eyespot.cli.inspect.file import file
from eyespot.cli.inspect.model import model
from eyespot.cli.train import train
from eyespot.errors import EyespotError

USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Build, train, prove and ask vision-language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
inspect = typer.Typer(
    help="Look at what a model reads, what it is made of, every row of a data file, or a single file.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
for looked_at in (batch, model, data, file):
    inspect.command()(looked_at)

app.command()(train)
app.command()(chat)
app.command("eval")(evaluate)
app.add_typer(inspect, name="inspect")
app.command()(build)
app.command()(convert)
app.command()(export)
app.command()(merge)
app.command()(seal)
app.command()(doctor)
app.command()(explain)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; what it returns is the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    _add_verbs_of_others()
    try:
        result = app(arguments, prog_name="eyespot", standalone_mode=False)
    except EyespotError as error:
        return fail(error, as_json=as_json)
    except typer.TyperException as error:
        if not str(error.format_message()):  # no verb given: the help has been shown
            return USAGE
        return fail(_usage(error), as_json=as_json)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `eyespot … | head`
            return 0
        return fail(EyespotError("file-access", error.strerror or str(error), where=str(error.filename or "")), as_json)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException) -> EyespotError:
    """What the parser did not understand, as an error of ours that names the right `--help`."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "eyespot"
    return EyespotError("argument", error.format_message(), where=command, remedy=f"See `{command} --help`.")


def _add_verbs_of_others() -> None:
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    for entry in entry_points(group="eyespot.verbs"):
        if entry.name not in known:
            verb = entry.load()
            app.add_typer(verb, name=entry.name) if isinstance(verb, typer.Typer) else app.command(entry.name)(verb)
