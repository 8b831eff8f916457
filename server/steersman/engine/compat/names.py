"""All names of vLLM's inside that Steersman relies on."""

from steersman.engine.compat.contract import Name
from steersman.engine.compat.names_of_engine import ENGINE
from steersman.engine.compat.names_of_server import SERVER

NAMES: tuple[Name, ...] = (*ENGINE, *SERVER)
