"""The entry point of `mitral`: commands, and what their errors look like."""

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from shared.errors import InputError, Misuse, MitralError, PeerFault, Refusal, Unavailable
from workbench.cli import audit, bench, demo, study
from workbench.cli.output import line, remark

EXIT_CODES: tuple[tuple[type[MitralError], int], ...] = (
    (InputError, 2),
    (Refusal, 3),
    (PeerFault, 4),
    (Unavailable, 5),
    (Misuse, 70),
)
BUG = 70

app = typer.Typer(
    help="Mitral: train a model across hospitals; no patient record leaves any of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(study.app, name="study")
app.add_typer(audit.app, name="audit")
app.add_typer(bench.app, name="bench")
app.command("demo")(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        line(f"mitral {version('mitral')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Mitral: train a model across hospitals; no patient record leaves any of them."""


def main() -> int:
    """Run the command line and return its exit status: 0 done, 2 input, 3 refused, 4 peer, 5 unavailable, 70 a bug."""
    try:
        app()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except MitralError as error:
        remark(f"error: {error.diagnostics()}")
        return next((status for kind, status in EXIT_CODES if isinstance(error, kind)), BUG)
    except KeyboardInterrupt:
        remark("interrupted")
        return 130
    except Exception:  # noqa: BLE001 (the last line of defence: the status must say that this is a bug)
        traceback.print_exc()
        remark("error: this is a bug of Mitral (internal_error); please report it with the lines above")
        return BUG
    return 0


if __name__ == "__main__":
    sys.exit(main())
