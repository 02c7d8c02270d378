from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError, InvalidInputError
from autoglm.prompt import ChatTemplate, Tokenizer
from autoglm.prompt.role_support import RoleSupport, probe_roles

USER = [{"role": "user", "content": "hi"}]


def test_layout(checkpoint: Path) -> None:
    template = ChatTemplate.from_directory(checkpoint)
    image = [{"type": "image"}, {"type": "text", "text": "look"}]
    rendered = template.render(
        [
            {"role": "system", "content": " S\n"},
            {"role": "user", "content": image},
            {"role": "assistant", "content": "A"},
            {"role": "tool", "content": "T"},
        ]
    )
    assert rendered == (
        "[gMASK]<sop><|system|>\n S\n<|user|>\n<|begin_of_image|><|image|><|end_of_image|>look"
        "<|assistant|>\nA<|observation|>\nT<|assistant|>\n"
    )
    assert template.render(USER, add_generation_prompt=False) == "[gMASK]<sop><|user|>\nhi"


def test_globals_and_extensions_of_the_reference(tokenizer: Tokenizer) -> None:
    source = (
        "{% for m in messages %}\n  {% if loop.index > 1 %}{% break %}{% endif %}\n"
        "{% generation %}{{ m.content }}{% endgeneration %}{{ m | tojson }}{{ eos_token }}"
        "{{ strftime_now('%Y')|length }}{% endfor %}"
    )
    rendered = ChatTemplate(source, named_tokens=tokenizer.named_tokens).render(
        [{"role": "user", "content": "<é>"}, {"role": "user", "content": "never"}]
    )
    assert rendered == '<é>{"role": "user", "content": "<é>"}<|endoftext|>4'


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_failures_are_the_requests_error(source: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        ChatTemplate(source).render(USER)
    assert error.value.field == "messages"


def test_invalid_jinja() -> None:
    with pytest.raises(CorruptCheckpointError):
        ChatTemplate("{% if %}")


def test_where_a_template_is_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        ChatTemplate.from_directory(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "plain"}))
    assert ChatTemplate.from_directory(tmp_path).source == "plain"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "usual"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.from_directory(tmp_path).source == "usual"
    assert ChatTemplate.from_directory(tmp_path, name="tool_use").source == "tools"
    with pytest.raises(CheckpointNotFoundError, match="rag"):
        ChatTemplate.from_directory(tmp_path, name="rag")
    config.write_text(json.dumps({"chat_template": ["x"]}))
    with pytest.raises(CorruptCheckpointError):
        ChatTemplate.from_directory(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "from json"}))
    assert ChatTemplate.from_directory(tmp_path).source == "from json"
    (tmp_path / "chat_template.jinja").write_text("from jinja")
    assert ChatTemplate.from_directory(tmp_path).source == "from jinja"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xff")
    with pytest.raises(CorruptCheckpointError):
        ChatTemplate.from_directory(tmp_path)


def test_roles_are_probed() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content if m.content is string else '' }}"
        "{% elif m.role == 'assistant' %}{{ m.content[0].text }}{% endif %}"
        "{% if m.role == 'system' %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    assert probe_roles(ChatTemplate(source)) == {
        "user": RoleSupport(string=True, parts=False),
        "system": RoleSupport(string=False, parts=True),
    }
