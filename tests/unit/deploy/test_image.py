"""Image, chart and compose agree on the user, the port and the directories."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
POD = (ROOT / "deploy" / "helm" / "steersman" / "templates" / "_pod.tpl").read_text()


def test_bases_are_arguments() -> None:
    given = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, re.MULTILINE))
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    arguments = set(re.findall(r"\$\{(\w+)\}", " ".join(bases)))
    assert arguments == {"CPU_BASE", "CUDA_BASE", "DEVICE"}
    assert all(given[name] for name in arguments)
    assert all("${" in base for base in bases)


def test_everyone_has_the_same_user() -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"(?:runAsUser|runAsGroup|fsGroup): (\d+)", POD)) == {user}
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    (home,) = (one for one in compose["services"]["steersman"]["tmpfs"] if "home" in one)
    assert home == f"/home/steersman:exec,uid={user},gid={user}"


def test_compiled_code_can_be_loaded() -> None:
    """Docker mounts a tmpfs `noexec` unless it is told otherwise."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    mounts = compose["services"]["steersman"]["tmpfs"]
    assert mounts
    assert all("exec" in mount.partition(":")[2].split(",") for mount in mounts)


def test_the_cache_is_where_the_image_looks() -> None:
    (variables,) = re.findall(r"^ENV ((?:.+\\\n)*.+)$", DOCKERFILE, re.MULTILINE)
    given = dict(re.findall(r"(\w+)=(\S+)", variables))
    caches = [path for name, path in given.items() if name != "PATH"]
    assert len(caches) == 4
    assert all(path.split("/")[1] == "cache" for path in caches)
    assert "mountPath: /cache" in POD
