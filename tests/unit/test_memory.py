"""Free memory is that of the machine, or of the container within it."""

from pathlib import Path

import psutil
import pytest

from steersman import memory

V1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat")
V2 = ("memory.max", "memory.current", "memory.stat")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = type("Memory", (), {"available": 1000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)


@pytest.mark.parametrize(
    ("names", "cached"), [(V2, "inactive_file"), (V1, "total_inactive_file")], ids=["v2", "v1"]
)
@pytest.mark.parametrize(
    ("limit", "taken", "free"),
    [("800", "300", 550), ("5000", "300", 1000), ("max", "300", 1000), ("300", "900", 0)],
)
def test_of_a_container(
    tmp_path: Path, names: tuple[str, ...], cached: str, limit: str, taken: str, free: int
) -> None:
    contents = (limit, taken, f"anon 200\n{cached} 50\n")
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert memory.available(tmp_path) == free


def test_of_a_machine_without_containers(tmp_path: Path) -> None:
    assert memory.available(tmp_path) == 1000
