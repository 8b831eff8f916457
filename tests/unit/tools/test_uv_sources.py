"""Sources of packages that pip is configured for reach uv."""

import subprocess
import sys
from pathlib import Path

import pytest
from tools import uv_sources

LISTING = """\
:env:.find-links='/opt/wheels'
:env:.timeout='180'
global.extra-index-url='https://a.example/simple https://b.example/simple'
global.find-links='/somewhere/else'
global.index-url='https://c.example/simple'
install.trusted-host='a.example'
list.format='json'
"""


def test_later_sections_override_earlier_ones() -> None:
    assert uv_sources.options(LISTING) == {
        "extra-index-url": "https://a.example/simple https://b.example/simple",
        "find-links": "/opt/wheels",
        "index-url": "https://c.example/simple",
        "timeout": "180",
        "trusted-host": "a.example",
    }


def test_each_option_has_its_variable() -> None:
    assert dict(uv_sources.variables(uv_sources.options(LISTING))) == {
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_FIND_LINKS": "/opt/wheels",
        "UV_DEFAULT_INDEX": "https://c.example/simple",
        "UV_HTTP_TIMEOUT": "180",
        "UV_INSECURE_HOST": "a.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_shell_can_evaluate_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real configuration files of pip, and a value that a shell must not split."""
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://u:p$w'd@c.example/simple\nfind-links =\n  a\n  b\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    for variable in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("UV_INDEX_STRATEGY", "first-index")
    pip = Path(sys.executable).with_name("pip")
    shell = f'eval "$({sys.executable} {uv_sources.__file__} {pip})"'
    shell += '; printf "%s\\n" "$UV_DEFAULT_INDEX" "$UV_FIND_LINKS" "$UV_INDEX_STRATEGY"'
    printed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == ["https://u:p$w'd@c.example/simple", "a,b", "first-index"]
