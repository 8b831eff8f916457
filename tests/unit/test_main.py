"""The program's module, which the engine's processes import too."""

import subprocess
import sys

PROGRAM = """
import sys
import steersman.__main__
print(*{name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
"""


def test_it_imports_nothing_but_the_package_itself() -> None:
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path[:0] = {sys.path}\n{PROGRAM}",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) - {"__main__"} == {"steersman"}


def test_it_is_the_command_line() -> None:
    command = [sys.executable, "-m", "steersman", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip()
