"""A chat template must make the built-in prompt; one that makes another is refused by its file."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tiny_configs import CONFIGS

from export.__main__ import main
from export.checkpoint import render
from export.checkpoint.chat_template import QUESTION, checked, messages
from export.errors import UserError
from export.families import family_of
from export.families.section import Section
from export.prompts import ChatTemplate, Prompt

MODELS = Path(__file__).parents[2] / "models"
FOLDER = Path("my-model")
JINJA, LEGACY = "chat_template.jinja", "chat_template.json"
PROCESSOR, TOKENIZER = "processor_config.json", "tokenizer_config.json"
Edit = Callable[[str], str]


def of_twin(name: str) -> str:
    template: str = json.loads((MODELS / name / LEGACY).read_text())["chat_template"]
    return template


TURNS = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}
{%- else %}{% for item in message.content %}
{%- if item.type == 'image' %}{{ '<IMG_CONTEXT>\\n' }}
{%- elif item.type == 'video' %}{{ '<video>\\n' }}
{%- else %}{{ item.text }}{% endif %}{% endfor %}{% endif %}
{{- '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
ORIGINAL = {
    "smolvlm": of_twin("tiny-smolvlm"),
    "gemma3": of_twin("tiny-gemma3"),
    "gemma3, text only": of_twin("tiny-gemma3"),
    "qwen2_5_vl": of_twin("tiny-qwen2.5-vl"),
    "internvl": TURNS,
}
ROLES = {
    "smolvlm": ("Assistant:", "Bot:"),
    "gemma3": ("<start_of_turn>model", "<start_of_turn>helper"),
    "gemma3, text only": ("<start_of_turn>model", "<start_of_turn>helper"),
    "qwen2_5_vl": ("<|im_start|>assistant", "<|im_start|>helper"),
    "internvl": ("<|im_start|>assistant", "<|im_start|>helper"),
}
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
IRRELEVANT: Mapping[str, Edit] = {
    "as it is": lambda template: template,
    "tools": lambda template: "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}" + template,
    "what only older turns have": lambda template: (
        "{% set ns = namespace(n=0) %}{% for m in messages[:-1] %}{% if ns.n > 9 %}{% break %}"
        "{% endif %}{% set ns.n = ns.n + 1 %}{% generation %}{{ m.role }}{% endgeneration %}"
        "{{ strftime_now('%Y') }}{% endfor %}" + template
    ),
    "a check of roles": lambda template: (
        "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}" + template
    ),
}
OTHER: Mapping[str, tuple[Edit, str]] = {
    "a system prompt": (lambda template: "Answer in JSON.\n" + template, "'Answer in JSON."),
    "upper case": (
        lambda template: "{% filter upper %}" + template + "{% endfilter %}",
        "where the built-in prompt",
    ),
    "a mistake": (lambda template: template + "{% if %}", "TemplateSyntaxError: Expected an"),
    "an exception": (
        lambda template: template + "{{ raise_exception('one\nimage') }}",
        "makes no prompt of a question with no image (TemplateError: one image)",
    ),
    "nothing": (lambda template: "", "writes '' where the built-in prompt"),
}


def prompt_of(case: str) -> Prompt:
    config = Section(CONFIGS[case], "config.json")
    family = family_of(CONFIGS[case], "config.json")
    prompt = family.prompt(family.read(config), config)
    assert isinstance(prompt, Prompt)
    return prompt


def check(
    files: Mapping[str, bytes], case: str = "smolvlm"
) -> tuple[ChatTemplate | None, tuple[str, ...]]:
    family = family_of(CONFIGS[case], "config.json")
    return checked(files, FOLDER, prompt_of(case), family, bos="<bos>")


def written(name: str, template: object) -> dict[str, bytes]:
    if name == JINJA:
        return {name: str(template).encode()}
    return {name: json.dumps({"chat_template": template}).encode()}


@pytest.mark.parametrize("edit", IRRELEVANT)
@pytest.mark.parametrize("case", ORIGINAL)
def test_a_template_with_the_same_prompts_passes(case: str, edit: str) -> None:
    found, notes = check(written(JINJA, IRRELEVANT[edit](ORIGINAL[case])), case)
    assert found is not None
    assert notes == ()


@pytest.mark.parametrize("edit", OTHER)
@pytest.mark.parametrize("case", ["smolvlm", "gemma3, text only"])
def test_a_template_with_other_prompts_is_refused(case: str, edit: str) -> None:
    changed, expected = OTHER[edit]
    refused(written(JINJA, changed(ORIGINAL[case])), expected, case)


@pytest.mark.parametrize("case", ROLES)
def test_another_name_for_a_role_is_refused(case: str) -> None:
    old, new = ROLES[case]
    refused(written(JINJA, ORIGINAL[case].replace(old, new)), new.rpartition(">")[2], case)


@pytest.mark.parametrize("system", ["", SYSTEM.replace("You are", "You were")])
def test_another_system_prompt_or_none_is_refused(system: str) -> None:
    changed = ORIGINAL["qwen2_5_vl"].replace(SYSTEM, system)
    refused(written(JINJA, changed), "You are a helpful", "qwen2_5_vl")


def test_images_in_another_place_are_refused() -> None:
    changed = ORIGINAL["internvl"].replace("<IMG_CONTEXT>\\n", "<IMG_CONTEXT>")
    refused(written(JINJA, changed), "(one image)", "internvl")


def refused(files: Mapping[str, bytes], expected: str, case: str) -> None:
    with pytest.raises(UserError) as raised:
        check(files, case)
    message = str(raised.value)
    assert message.startswith(f"{FOLDER / next(iter(files))}: its chat template ")
    assert expected in message
    assert "chat template of the original model" in message
    assert "\n" not in message
    assert len(message) < 600


NAMED = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": TURNS}]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        (JINJA, TURNS),
        (LEGACY, TURNS),
        (PROCESSOR, TURNS),
        (TOKENIZER, TURNS),
        (TOKENIZER, NAMED),
        (PROCESSOR, {"default": TURNS, "rag": "R"}),
    ],
)
def test_a_template_is_found_wherever_it_may_be(name: str, template: object) -> None:
    others = {TOKENIZER: b"{}", PROCESSOR: b'{"chat_template": null}'}
    found, notes = check({**others, **written(name, template)}, "internvl")
    assert found is not None
    assert (found.file, found.source) == (name, TURNS)
    assert notes == ()


@pytest.mark.parametrize(
    ("case", "order"),
    [
        ("smolvlm", (PROCESSOR, LEGACY, JINJA, TOKENIZER)),
        ("gemma3, text only", (JINJA, TOKENIZER, LEGACY, PROCESSOR)),
    ],
)
def test_of_several_templates_the_one_of_transformers_counts(
    case: str, order: tuple[str, ...]
) -> None:
    for at, first in enumerate(order[:-1]):
        files = {k: v for name in order[at:] for k, v in written(name, "other").items()}
        found, notes = check(files | written(first, ORIGINAL[case]), case)
        assert found is not None
        assert found.file == first
        assert len(notes) == 3 - at
        assert notes[0].startswith(f"{order[at + 1]} has another chat template than {first}, ")


def test_without_a_template_a_note_says_whose_prompts_are_used() -> None:
    found, notes = check({TOKENIZER: b"{}", PROCESSOR: b"{}"})
    assert found is None
    expected = "the checkpoint has no chat template; prompts are the built-in ones of smolvlm"
    assert notes == (expected,)


@pytest.mark.parametrize("template", ["{{ bos_token }}", "<bos>"])
@pytest.mark.parametrize(
    "config", [{}, {"bos_token": "<bos>"}, {"bos_token": {"content": "<bos>", "lstrip": False}}]
)
def test_a_template_may_name_special_tokens(template: str, config: Mapping[str, object]) -> None:
    changed = ORIGINAL["gemma3"].replace("{{ bos_token }}", template)
    files = {**written(JINJA, changed), TOKENIZER: json.dumps(config).encode()}
    assert check(files, "gemma3")[0] is not None


@pytest.mark.parametrize(
    ("case", "content", "listed"),
    [("gemma3, text only", "message['content'] | trim", False), ("smolvlm", None, True)],
)
def test_a_question_without_images_may_be_a_list_or_text(
    case: str, content: str | None, listed: bool
) -> None:
    template = ORIGINAL[case]
    if content is not None:
        start, end = template.index("{% for item"), template.index("{{ '<end_of_turn>")
        template = template[:start] + "{{ " + content + " }}" + template[end:]
    found, _ = check(written(JINJA, template), case)
    assert found is not None
    assert found.listed is listed


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({JINJA: b"\xff"}, "is not UTF-8 text (byte 0)"),
        ({LEGACY: b"{}"}, "chat_template is null, expected a template's text"),
        ({LEGACY: b"{"}, "is not valid JSON"),
        (written(PROCESSOR, 3), "chat_template is 3, expected a template's text"),
        (written(TOKENIZER, ["a"]), 'chat_template is ["a"], expected a template\'s text'),
        (written(TOKENIZER, [{"name": "rag", "template": "R"}]), "named rag, none of them 'defau"),
        (written(TOKENIZER, [{"name": "default", "template": 1}]), "chat_template is 1, expected"),
    ],
)
def test_a_file_without_a_readable_template_is_refused(
    files: dict[str, bytes], expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        check(files)
    assert str(raised.value).startswith(f"{FOLDER / next(iter(files))}: ")
    assert expected in str(raised.value)


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (LOOP, "it takes more than 2 s"),
        ("{{ 'a' * 10 ** 11 }}", "it takes too much memory"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "RecursionError"),
    ],
)
def test_a_hostile_template_is_refused_in_seconds(template: str, expected: str) -> None:
    refused(written(JINJA, template), expected, "smolvlm")


SYNTAX = """  {# trimmed -#}
{% set ns = namespace(images=0) %}
{% for item in messages[0].content %}
  {% if item.type == 'image' %}{% set ns.images = ns.images + 1 %}{% continue %}{% endif %}
  {{ {'b': item.text, 'a': '<&>é'} | tojson }} {{ {'b': [1], 'a': 2} | tojson(indent=1) }}
{% endfor %}
{% generation %}
{{ ns.images }}{{ strftime_now('%Y')[:2] }}{{ bos_token }}{{ unknown }}{{ tools is none }}
{% endgeneration %}
"""


@pytest.mark.parametrize("template", [SYNTAX, *ORIGINAL.values()])
def test_templates_are_rendered_as_by_transformers(template: str) -> None:
    library = pytest.importorskip("transformers.utils.chat_template_utils")
    asked, variables = [messages(QUESTION, 2, listed=True)], {"bos_token": "<s>"}
    theirs = library.render_jinja_template(
        asked, chat_template=template, add_generation_prompt=True, **variables
    )
    assert render.rendered(template, asked, variables) == [{"text": theirs[0][0]}]


def test_an_export_refuses_a_template_before_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(MODELS / "tiny-smolvlm", tmp_path / "m"))
    (folder / LEGACY).write_bytes(written(LEGACY, "{{ messages[0].content[0].text }}")[LEGACY])
    assert exported(folder, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder / LEGACY}: its chat template writes 'what color is")
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_an_export_says_that_there_is_no_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(MODELS / "tiny-smolvlm", tmp_path / "m"))
    (folder / LEGACY).unlink()
    (folder / TOKENIZER).write_text("{}")
    assert exported(folder, tmp_path / "out") == 0
    note = "the checkpoint has no chat template; prompts are the built-in ones of smolvlm"
    assert f"  note: {note}\n" in capsys.readouterr().out
    details = json.loads((tmp_path / "out" / "artifact.json").read_text())["details"]
    assert note in details["limits"]


def exported(folder: Path, out: Path) -> int:
    words = ["--target", "onnx", "--recipe", "int8", "--no-verify", "--out", str(out)]
    return main([str(folder), *words])
