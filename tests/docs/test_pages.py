"""Every code block of README and documentation runs, parses, or names what exists."""

import re
import shlex
import shutil

import pytest
import typer
import yaml
from pages import DOCS, ROOT, LocalHub, RoomOracle, blocks_of, furnish, markdown_pages, run_python

from croco3d.cli.program import build_app
from croco3d.hub.known import KNOWN
from croco3d.modeling.dust3r import Dust3rForStereo
from croco3d.modeling.registry import DECODERS, ENCODERS, HEADS

LANGUAGES = {"python", "bash", "yaml", "toml", "markdown", "text"}
# Programs of others that pages may call; ours are checked option by option.
OTHERS = {"pip", "git", "hf", "docker", "cd", "npm", "mkdocs", "mike", "pre-commit", "ruff"}

# Tracing a model takes several seconds.
SLOW = {"docs/guides/onnx.md"}

PAGES = {str(page.relative_to(ROOT)): page for page in markdown_pages()}


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    furnish(folder)
    return folder


@pytest.fixture
def workplace(furnished, tmp_path, monkeypatch):
    """A folder with photographs and weights; components registered by a page go with it."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("croco3d.hub.publishing.HfApi", LocalHub)
    oracle = RoomOracle(Dust3rForStereo)
    monkeypatch.setattr(Dust3rForStereo, "decode", lambda *args, **kw: oracle(*args, **kw))
    for registry in (ENCODERS, DECODERS, HEADS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def with_language(language):
    return [
        name for name, page in PAGES.items() if any(b.language == language for b in blocks_of(page))
    ]


# peft still reads the old name of activation checkpointing.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in with_language("python")
    ],
)
def test_python_blocks_run(name, workplace):
    run_python([b for b in blocks_of(PAGES[name]) if b.language == "python"], PAGES[name])


def commands(code):
    """The commands of a shell block: continued lines joined, comments and variables dropped."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words


@pytest.mark.parametrize("name", with_language("bash"))
def test_shell_blocks_name_what_exists(name):
    for block in blocks_of(PAGES[name]):
        if block.language == "bash":
            for words in commands(block.code):
                check_command(words)


def check_command(words):
    program, arguments = words[0], words[1:]
    if program == "croco3d":
        check_croco3d(arguments)
    elif program == "make":
        targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(a for a in arguments if "=" not in a) <= set(targets), words
    elif program == "accelerate":
        check_accelerate(arguments)
    elif program == "python":
        check_python(arguments)
    else:
        assert program in OTHERS or (ROOT / program).is_file(), f"{program!r}: {words}"


def check_croco3d(arguments):
    command = typer.main.get_command(build_app())
    helps = "--help" in arguments
    arguments = [word for word in arguments if word != "--help"]
    if not arguments:
        return
    context = command.make_context("croco3d", list(arguments))
    with context:
        while hasattr(command, "resolve_command") and context._protected_args + context.args:
            words = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, words)
            context = command.make_context(name, rest, parent=context, resilient_parsing=helps)


def check_accelerate(arguments):
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch", arguments
    parsed = launch_command_parser().parse_args(arguments[1:])
    if parsed.config_file:
        assert (ROOT / parsed.config_file).is_file(), parsed.config_file
    if parsed.no_python:
        return check_command([parsed.training_script, *parsed.training_script_args])
    assert parsed.training_script == "croco3d.training" and parsed.module
    check_croco3d(["train", *parsed.training_script_args])


def check_python(arguments):
    if arguments[:2] == ["-m", "pytest"]:
        return
    if arguments[0] == "-m":
        assert arguments[1] in {"venv", "build", "pip"}, arguments
    else:
        assert (ROOT / arguments[0]).is_file(), arguments[0]


@pytest.mark.parametrize("name", with_language("yaml"))
def test_run_configurations_parse(name, tmp_path):
    from croco3d.training import load_config

    for block in blocks_of(PAGES[name]):
        if block.language != "yaml":
            continue
        content = yaml.safe_load(block.code)
        if isinstance(content, dict) and "task" in content:
            path = tmp_path / "run.yaml"
            path.write_text(block.code)
            load_config(path)


@pytest.mark.parametrize("name", PAGES)
def test_languages_are_checked_ones(name):
    unknown = {b.language for b in blocks_of(PAGES[name])} - LANGUAGES
    assert not unknown, f"{name}: blocks of {unknown} would be checked by nothing"


def test_readme_names_the_licence_of_all_known_weights():
    readme = (ROOT / "README.md").read_text()
    for weights in KNOWN:
        assert f"| `{weights.name}` | {weights.license} |" in readme, weights.name


@pytest.mark.parametrize("package", ["encoders", "decoders", "heads", "layers"])
def test_every_component_has_its_line_of_documentation(package):
    init = (ROOT / f"croco3d/modeling/{package}/__init__.py").read_text()
    page = (DOCS / f"api/{package}.md").read_text().split()
    for name in re.findall(r"import (\w+) as \1", init):
        assert f"croco3d.modeling.{package}.{name}" in page, f"{name} is missing in {package}.md"


def test_every_page_is_two_clicks_away():
    """Tabs and their sections are open on every page; deeper nesting would hide pages."""
    text = re.sub(r"!ENV", "", (ROOT / "mkdocs.yml").read_text())
    nav = yaml.safe_load(text)["nav"]
    listed = []

    def walk(entries, depth):
        for entry in entries:
            value = next(iter(entry.values())) if isinstance(entry, dict) else entry
            if isinstance(value, list):
                walk(value, depth + 1)
            else:
                assert depth <= 2, f"{value} is {depth} levels deep"
                listed.append(value)

    walk(nav, 1)
    pages = {p.relative_to(DOCS).as_posix() for p in PAGES.values() if DOCS in p.parents}
    assert pages <= set(listed), f"not in the navigation: {sorted(pages - set(listed))}"
