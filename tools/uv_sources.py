"""Tell uv where pip would look: uv does not read pip's configuration.

`python tools/uv_sources.py PIP` prints lines for a shell to evaluate. A variable that the
environment has already is left alone.
"""

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping

LISTS = {"extra-index-url": ("UV_INDEX", " "), "find-links": ("UV_FIND_LINKS", ",")}
"""Options of pip that take several values: uv's variable, and what stands between its values."""
SINGLE = {
    "index-url": "UV_DEFAULT_INDEX",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "trusted-host": "UV_INSECURE_HOST",
}
SECTIONS = ("global", "install", ":env:")
"""Of pip's configuration, those that bear on an installation; a later one overrides."""


def options(listing: str) -> dict[str, str]:
    """The options that `pip config list` prints, the last value of each."""
    found: dict[str, str] = {}
    lines = [line.partition("=") for line in listing.splitlines()]
    for section in SECTIONS:
        for name, _, value in lines:
            if name.startswith(f"{section}."):
                found[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return found


def variables(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """uv's variables, with their values, for options of pip."""
    for option, (variable, between) in LISTS.items():
        if values := found.get(option, "").split():
            yield variable, between.join(values)
    for option, variable in SINGLE.items():
        if value := found.get(option):
            yield variable, value
    # The best version of all sources, as pip has it. Every package has its digests, so that it does
    # not matter which source it comes from.
    yield "UV_INDEX_STRATEGY", "unsafe-best-match"


def main(pip: str) -> None:
    """Print an assignment for each variable that is not set."""
    listing = subprocess.run([pip, "config", "list"], capture_output=True, text=True, check=True)
    for variable, value in variables(options(listing.stdout)):
        if variable not in os.environ:
            print(f"export {variable}={shlex.quote(value)}")


if __name__ == "__main__":
    main(sys.argv[1])
