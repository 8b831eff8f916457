"""`python -m steersman`, and the program `steersman`.

The engine's processes import the module that was run, too: it must cost them nothing.
"""


def main() -> None:
    """Command line."""
    from steersman.cli import app

    app(prog_name="steersman")


if __name__ == "__main__":
    main()
