"""`steersman directions`: vectors and edits made from a model's own responses."""

import typer

from steersman.directions.cli.calibrate import calibrate
from steersman.directions.cli.edit import edit
from steersman.directions.cli.extract import extract
from steersman.directions.cli.heads import heads
from steersman.supported import supported_vllm

# What a command does not know is an argument of the engine.
_WITH_ENGINE = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make steering vectors and edits from a model's own responses.",
)


@app.callback()
def directions() -> None:
    """Make steering vectors and edits from a model's own responses."""
    supported_vllm()


app.command(context_settings=_WITH_ENGINE)(extract)
app.command(context_settings=_WITH_ENGINE)(calibrate)
app.command(context_settings=_WITH_ENGINE)(heads)
app.command(context_settings=_WITH_ENGINE)(edit)
