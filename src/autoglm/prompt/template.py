"""The checkpoint's chat template: jinja2 in a sandbox, with the globals and options transformers gives it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autoglm.errors import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    InvalidInputError,
)
from autoglm.prompt.files import read_optional_json


class _GenerationBlock(Extension):
    """``{% generation %}...{% endgeneration %}`` marks training targets; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012  (the type jinja2 declares)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: jinja text. It comes with the weights, so it is not trusted: it runs in an immutable sandbox.
        named_tokens: ``eos_token`` and so on, visible to the template.

    Raises:
        CorruptCheckpointError: the text is not valid jinja.
    """

    def __init__(self, source: str, *, named_tokens: Mapping[str, str] | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self.source = source
        self._named_tokens = dict(named_tokens or {})
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise CorruptCheckpointError(
                f"the chat template is not valid jinja: {error}", field="chat_template"
            ) from error

    @classmethod
    def from_directory(
        cls, directory: str | Path, *, named_tokens: Mapping[str, str] | None = None, name: str = "default"
    ) -> ChatTemplate:
        """From ``chat_template.jinja``, ``chat_template.json`` or ``tokenizer_config.json``, in this order.

        Args:
            name: which template, where ``tokenizer_config.json`` holds a list of named ones.

        Raises:
            CheckpointNotFoundError: no template, or none of this name.
            CorruptCheckpointError: a file does not parse.
        """
        source = _find_source(Path(directory), name)
        return cls(source, named_tokens=named_tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The prompt text of ``messages`` (``role`` and ``content``, as transformers passes them).

        Raises:
            InvalidInputError: the template refuses the dialogue or fails on it.
        """
        variables: dict[str, Any] = {
            **self._named_tokens,
            "messages": list(messages),
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._template.render(variables)
        except Exception as error:  # template code can raise any error an expression can
            raise InvalidInputError(
                f"the model's chat template cannot render these messages: {error}", field="messages"
            ) from error


def _find_source(directory: Path, name: str) -> str:
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptCheckpointError(f"{path} cannot be read: {error}", field=path.name, value=str(path)) from error
    for file in ("chat_template.json", "tokenizer_config.json"):
        value = read_optional_json(directory / file).get("chat_template")
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return _named_source(value, name, directory / file)
    raise CheckpointNotFoundError(
        f"no chat template in {directory} (chat_template.jinja, chat_template.json or tokenizer_config.json)",
        field="chat_template",
        value=str(directory),
    )


def _named_source(templates: list[Any], name: str, path: Path) -> str:
    names: list[str] = []
    for entry in templates:
        if not isinstance(entry, dict) or not isinstance(entry.get("template"), str):
            raise CorruptCheckpointError(
                f"{path}: chat_template is a list, but not of named templates", field="chat_template"
            )
        if entry.get("name") == name:
            return str(entry["template"])
        names.append(str(entry.get("name")))
    raise CheckpointNotFoundError(
        f"{path} has no chat template named {name!r}, only {names}", field="chat_template", value=name
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without jinja's own HTML escaping, which would change the prompt."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
