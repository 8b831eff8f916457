"""The files of any model, in a directory or on the Hugging Face Hub, read before it is loaded."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from steersman.models import weights

_HUB_SECONDS = 10.0
# Raised by the Hub's client for a name it does not know, a file that is not there, and offline.
_UNREACHABLE = (OSError, ValueError, HTTPError)


class ModelFiles:
    """A model as its files describe it; a file that cannot be had says nothing.

    Files in the Hub's cache are read there, so that a second start needs no network.

    Args:
        name: A directory, or an id on the Hub.
        revision: Branch, tag or commit there; None for its default branch.
        token: Access token for the Hub; None for the one that its client finds by itself.
        hub: Whether what is no directory is on this Hub.

    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        token: str | bool | None = None,
        *,
        hub: bool = True,
    ) -> None:
        self._hub = hub and not Path(name).is_dir()
        self._name = name
        self._revision = revision
        self._token = token

    def text(self, file: str) -> str | None:
        """The content of a file; None if there is none, or it is not text."""
        path = self._path(file)
        try:
            return None if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def mapping(self, file: str) -> Mapping[str, Any]:
        """The content of a JSON file; empty if there is none, or it holds no object."""
        try:
            content = json.loads(self.text(file) or "{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The model's configuration."""
        return self.mapping("config.json")

    def chat_template(self) -> str:
        """The chat template, or all of them if the model has several; empty if it has none."""
        if (template := self.text("chat_template.jinja")) is not None:
            return template
        named = self.mapping("tokenizer_config.json").get("chat_template")
        if named is None:
            named = self.mapping("chat_template.json").get("chat_template")
        if isinstance(named, list):  # each with a name of its own
            named = "\n".join(str(one.get("template")) for one in named if isinstance(one, dict))
        return named if isinstance(named, str) else ""

    def weight_bytes(self) -> Mapping[str, int]:
        """Bytes of the weights by safetensors' name of their number type; empty if not known."""
        config = self._path("config.json")
        if config is not None and (found := weights.in_directory(config.parent)):
            return found
        published = self._published
        if published is None or published.safetensors is None:
            return {}
        return weights.of_counts(published.safetensors.parameters)

    def _path(self, file: str) -> Path | None:
        if not self._hub:
            path = Path(self._name) / file
            return path if path.is_file() else None
        try:
            cached = try_to_load_from_cache(self._name, file, revision=self._revision)
            if cached is None:
                # First one question without retries: an unreachable Hub is the loader's to report.
                published = self._published
                if published is None or all(
                    sibling.rfilename != file for sibling in published.siblings or ()
                ):
                    return None
                cached = hf_hub_download(
                    self._name, file, revision=self._revision, token=self._token
                )
        except _UNREACHABLE:
            return None
        return Path(cached) if isinstance(cached, str) else None

    @cached_property
    def _published(self) -> ModelInfo | None:
        """The Hub's own words on the model; None if it has none."""
        if not self._hub:
            return None
        try:
            return HfApi().model_info(
                self._name,
                revision=self._revision,
                expand=["safetensors", "siblings"],
                timeout=_HUB_SECONDS,
                token=self._token,
            )
        except _UNREACHABLE:
            return None
