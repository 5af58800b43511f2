"""The pages hold together: generated ones are current, links lead somewhere, and names exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sandbox_core.settings import Settings
from tests.docs.command_tree import commands, options_of
from tests.docs.markdown import ROOT, anchors, blocks, links, name_of, pages

SOURCES = ("bot", "cogs", "sandbox_core", "sandbox_gateway")

# Where a name of a subject, a key or a schema looks like a metric's.
_NO_METRIC = {
    "sandbox_bot",
    "sandbox_cogs",
    "sandbox_core",
    "sandbox_gateway",
    "sandbox_id",
    "sandbox_prod_backup",
}


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    """`docs/generate.py`, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_generated_pages_are_current(generate: ModuleType) -> None:
    for path, text in generate.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: make docs"


def test_every_error_and_every_setting_is_explained(generate: ModuleType) -> None:
    assert set(generate.error_classes()) == set(generate.EXAMPLES)
    written = generate.purposes()
    for name in Settings.model_fields:
        assert written.get(name), f"{name} has no docstring that says what it is for"
        groups = [group for group, prefixes in generate.GROUPS.items() if name.startswith(prefixes)]
        assert len(groups) == 1, f"{name} belongs to no section of docs/settings.md, or to several"


def test_the_example_environment_has_every_setting() -> None:
    listed = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert {name.upper() for name in Settings.model_fields} <= listed


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(linked), f"{name_of(page)} links to {target}, which has no such heading"


def test_the_runbook_has_the_sections_that_alerts_name() -> None:
    found = {anchor[:9] for anchor in anchors(ROOT / "docs" / "runbook.md") if anchor.startswith("rb-sb-")}
    assert found == {f"rb-sb-{number:03}" for number in range(1, 16)}


def test_alerts_are_named_where_they_lead() -> None:
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = {section.split("\n", 1)[0][:9].lower(): section for section in runbook.split("\n## ")}
    names = re.findall(r"- alert: (\w+)", alerts)
    leads = re.findall(r"runbook_url: \S*runbook\.md#(\S+)", alerts)
    assert len(names) == len(leads) > 0
    for name, anchor in zip(names, leads, strict=True):
        assert anchor in anchors(ROOT / "docs" / "runbook.md")
        assert f"`{name}`" in sections[anchor[:9]], f"the runbook's section {anchor} does not name {name}"


def _sources() -> str:
    return "\n".join(
        path.read_text(encoding="utf-8")
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
    )


def test_names_of_metrics_log_lines_and_variables_exist(generate: ModuleType) -> None:
    sources = _sources()
    known_variables = {name.upper() for name in Settings.model_fields} | set(
        re.findall(r'"((?:DISCORD|SANDBOX)_[A-Z_]+)"', sources)
    )
    known_variables |= {f"{name.upper()}_FILE" for name in generate.secret_settings()}
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for metric in re.findall(r"`(sandbox_[a-z_]+)(?:\{[^`]*)?`", text):
            base = re.sub(r"_(total|bucket|count|sum)$", "", metric)
            exists = metric in _NO_METRIC or f'"{metric}"' in sources or f'"{base}"' in sources
            assert exists, f"{name_of(page)} names the metric {metric}"
        for names in re.findall(r"log lines? ((?:`[a-z_]+`(?:, | and )?)+)", text):
            for line in re.findall(r"`([a-z_]+)`", names):
                assert f'"{line}"' in sources, f"{name_of(page)} names the log line {line}"
        for variable in re.findall(r"`((?:DISCORD|SANDBOX|EVENTS|ROUTER|OPS|LOG)_[A-Z_]+)`", text):
            assert variable in known_variables, f"{name_of(page)} names the variable {variable}"


def test_each_usual_change_has_one_file_that_exists() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = architecture.partition("\n## Where do I change\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `([^`|]+)` \|$", section, re.MULTILINE)
    assert len(rows) >= 25
    assert len({change for change, _ in rows}) == len(rows) == section.count("\n|") - 2
    for change, file in rows:
        assert (ROOT / file).is_file(), f"{change}: there is no {file}"


def test_commands_and_their_options_exist() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for name, rest in re.findall(r"sandboxctl (?:\[|)([a-z][a-z-]*)([^`\n|]*)", text):
            assert name in commands(), f"{name_of(page)} names the command {name}"
            options = options_of([name, *rest.split()])
            for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest.split(" -- ")[0]):
                assert option in options | {"--help"}, f"{name_of(page)}: {name} has no {option}"
        for target in re.findall(r"`make ([a-z]+)", text):
            assert f"\n{target}: " in (ROOT / "Makefile").read_text(), f"{name_of(page)}: make {target}"


def test_code_in_the_guide_is_that_of_the_example() -> None:
    files = [*(ROOT / "docs").glob("*_example.py"), *(ROOT / "docs" / "ci").glob("*.py")]
    examples = [path.read_text(encoding="utf-8") for path in files]
    for page in pages():
        for block in blocks(page):
            if block.language == "python":
                found = any(_contains(example, block.text) for example in examples)
                assert found, f"{block} is in no docs/*_example.py and no docs/ci/*.py"


def _contains(source: str, excerpt: str) -> bool:
    lines = [line.strip() for line in source.splitlines()]
    wanted = [line.strip() for line in excerpt.splitlines()]
    return any(lines[start : start + len(wanted)] == wanted for start in range(len(lines)))
