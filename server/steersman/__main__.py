"""`python -m steersman`."""

from steersman.cli import app

if __name__ == "__main__":
    app(prog_name="steersman")
