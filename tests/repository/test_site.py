"""The documentation site: its pages contain what the code says, and their code and their commands work."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import commands_page
import constants_page
import diagrams
import page_commands
import pytest
import screenshots
import site_pages
from docutils import nodes
from screen_drawing import draw_screen

from distributed_something.cli.main import cli
from distributed_something.core.config_settings import Settings
from distributed_something.project.config_file import load_settings
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
COMMAND_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES, *sorted(ROOT.glob("examples/*/README.md"))]
MAX_CODE_CHARACTERS = 88
CONFIG_TEXT = (ROOT / "config.py").read_text()
REQUIRED_CONSTANTS = "".join(
    f"{name} = {value!r}\n"
    for name, value in screenshots.PLATE_CONFIG.items()
    if Settings.model_fields[name].is_required()
)
# In the runs of these pages, the first `monitor` returns 3, because a job fails.
FIRST_MONITOR_CODES = {"start-here.md": 0, "tutorial.md": 3}


def list_blocks(language: str) -> list[tuple[str, str]]:
    """Return the blocks of code in all pages that are in this language, with the names of their pages."""
    starts = {"python": r"import |from |def ", "json": r"\{\s|\{\"|\"\w+\": ", "config": r"[A-Z][A-Z0-9_]+ = "}
    blocks = [(page.name, block) for page in PAGES for block in read_any_indent(page.read_text())]
    return [(name, block) for name, block in blocks if re.match(starts[language], block)]


def read_any_indent(text: str) -> list[str]:
    """Return the blocks of a page: fenced ones, and indented ones, also in a list, each without its indent."""
    fenced = re.findall(r"^```\w+\n(.*?)^```", text, flags=re.M | re.S)
    indented = re.findall(r"(?:(?<=\n\n)|(?<=-->\n))((?: {4}.*\n|\n(?= {4}))+)", text)
    for block in indented:
        indent = len(block) - len(block.lstrip(" "))
        fenced.append("".join(line[indent:] or "\n" for line in block.splitlines(keepends=True)))
    return fenced


def test_the_blocks_of_each_language_are_found() -> None:
    assert min(len(list_blocks("python")), len(list_blocks("json"))) >= 4
    assert list_blocks("config")


@pytest.mark.parametrize(("page", "block"), list_blocks("python"), ids=lambda value: value[:20])
def test_python_in_the_docs_is_valid(page: str, block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize(("page", "block"), list_blocks("json"), ids=lambda value: value[:20])
def test_json_in_the_docs_is_valid(page: str, block: str) -> None:
    """Some blocks are only a few keys, and `…` stands for more of them."""
    text = block.strip().rstrip(",") if block.startswith("{") else f"{{{block.strip().rstrip(',')}}}"
    json.loads(re.sub(r", …|…", "", text))


@pytest.mark.parametrize(("page", "block"), list_blocks("config"), ids=lambda value: value[:20])
def test_constants_in_the_docs_are_accepted(page: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(f"{REQUIRED_CONSTANTS}\n{block}")
    load_settings(tmp_path / "config.py")


def test_commands_and_python_in_the_docs_fit_on_the_page() -> None:
    """The site's text is 46 em wide: 88 characters of code in a list. Longer lines would have to be scrolled."""
    command = re.compile(r"^ {4,}((?:python|make|cd|export|uv|aws|examples/|\.ci/)\b.*)$", flags=re.M)
    found = [(page.name, line) for page in COMMAND_PAGES for line in command.findall(page.read_text())]
    found += [(page, line) for page, block in list_blocks("python") for line in block.splitlines()]
    assert len(found) > 200
    assert [f"{page}: {line}" for page, line in found if len(line) > MAX_CODE_CHARACTERS] == []


def test_the_reference_contains_every_command_and_every_option() -> None:
    text = commands_page.format_commands_page()
    sections = dict(re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^##|\Z)", text))
    assert sections.keys() == cli.commands.keys()
    for name, command in cli.commands.items():
        own = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        missing = [option for option in own - commands_page.SHARED_NAMES if f"`{option}" not in sections[name]]
        assert not [option for option in missing if f", {option}" not in sections[name]], name
    assert all(f"`{name}" in text.partition("### ")[0] for name in ("--local", "--containers", "--project"))


def test_each_option_is_a_row_of_two_cells_also_if_it_contains_a_pipe() -> None:
    rows = [line for line in commands_page.format_commands_page().splitlines() if line.startswith("| `")]
    assert [row for row in rows if len(re.findall(r"(?<!\\)\|", row)) != 3] == []
    assert any(r"\|" in row for row in rows)


def test_code_without_long_words_is_kept_whole_and_long_paths_may_break_at_slashes() -> None:
    codes = [
        nodes.literal(text=text)
        for text in ("--dry-run", "--files FOLDER and --like JOBFILE", "runs/RUN/monitor_file.json")
    ]
    site_pages.mark_short_code(None, nodes.paragraph("", "", *codes))
    assert [code["classes"] for code in codes] == [["whole", "short"], ["whole"], []]
    body = "".join(
        f'<span class="pre">{code.astext()}</span><a href="a/b/c/d/e/f/g/h/i/j/k/l/m/n"></a>' for code in codes
    )
    context = {"body": body}
    site_pages.let_paths_break(None, "", "", context, None)
    assert re.sub(r"/<wbr>", "/", context["body"]) == body
    assert context["body"].count("<wbr>") == 2


def test_the_options_of_every_command_are_those_that_every_command_has() -> None:
    table = commands_page.format_commands_page().partition("### ")[0]
    shown = set(re.findall(r"(?m)^\| `(--[\w-]+)", table))
    assert len(shown) >= 4
    for command in cli.commands.values():
        assert shown <= {name for parameter in command.params for name in parameter.opts}, command.name


def test_the_page_of_all_options_is_the_one_that_the_code_writes() -> None:
    assert commands_page.PAGE.read_text() == commands_page.format_commands_page(), "run: make screenshots"


def test_the_page_of_all_constants_is_the_one_that_the_code_writes() -> None:
    assert constants_page.PAGE.read_text() == constants_page.format_constants_page(), "run: make screenshots"


def test_each_constant_has_a_section_that_explains_it_and_says_whether_it_may_be_left_out() -> None:
    sections = re.findall(r"(?ms)^### (\w+)\n\n(.*?)\n\n(.*?)(?=\n\n##|\Z)", constants_page.format_constants_page())
    assert [name for name, _, _ in sections] == [item.name for item in constants_page.read_constants(CONFIG_TEXT)]
    assert {name for name, _, _ in sections} == {name for name in Settings.model_fields if name.isupper()}
    for name, comment, values in sections:
        assert len(comment) > 15, name
        assert values.startswith("**Required.**") == Settings.model_fields[name].is_required(), name


def test_the_defaults_on_the_page_are_those_of_a_config_that_does_not_set_the_constants(tmp_path: Path) -> None:
    """Each default is written as in a config, so a config with all of them is the same as one without them."""
    page = constants_page.format_constants_page()
    defaults = re.findall(r"(?ms)^### (\w+)\n\n[^\n]*\n\n\*\*Default:\*\* `([^`]*)`", page)
    assert len(defaults) > 30
    config = tmp_path / "config.py"
    config.write_text(REQUIRED_CONSTANTS)
    expected = load_settings(config)
    defaults.sort(key=lambda pair: pair[0] == "CPU_SHARES")  # it is computed from another one
    config.write_text(REQUIRED_CONSTANTS + "".join(f"{name} = {value}\n" for name, value in defaults))
    assert load_settings(config) == expected


def test_comments_above_and_beside_a_constant_explain_it_and_a_blank_line_ends_them() -> None:
    text = "# SQS LIMITS (all):\n# not this\n\n# Whether it\n# works.\nA_B = '#'  # or not\nC = A_B\n"
    assert list(constants_page.read_constants(text)) == [
        constants_page.Constant("SQS limits", "A_B", "'#'", "Whether it works. or not"),
        constants_page.Constant("SQS limits", "C", "A_B", ""),
    ]


def test_the_drawings_in_the_docs_are_those_that_the_code_draws() -> None:
    for name, text in diagrams.format_drawings().items():
        assert (DOCS / "pictures" / name).read_text() == text, "run: make screenshots"


def test_each_text_of_a_drawn_screen_keeps_its_own_spaces() -> None:
    """Browsers collapse the spaces of a text element that does not say so itself, whatever its group says."""
    cells = [[(character, "") for character in "a  b"] + [(character, "1;31") for character in "  c"]]
    for drawing in (draw_screen(cells, "a screen"), (DOCS / "pictures" / "monitor.svg").read_text()):
        texts = list(ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text"))
        assert len(texts) >= 2
        assert {text.get("{http://www.w3.org/XML/1998/namespace}space") for text in texts} == {"preserve"}


def test_the_drawing_of_the_packages_has_every_arrow_of_the_architecture() -> None:
    arrows = diagrams.read_arrows()
    assert len(arrows) >= 15
    assert {name for pair in arrows for name in pair} == {name for row in diagrams.PACKAGE_ROWS for name in row}


def test_sphinx_finds_each_picture_that_a_page_shows() -> None:
    """Sphinx does not copy a picture in HTML, and does not say so."""
    app = SimpleNamespace(config=SimpleNamespace(repository_address="", root_doc="docs/index"))
    found = []
    for page in COMMAND_PAGES:
        source = [page.read_text()]
        site_pages.complete_page(app, str(page.relative_to(ROOT).with_suffix("")), source)
        assert "<img" not in source[0], page
        found += [page.parent / picture for picture in re.findall(r"^```\{image\} (.+)$", source[0], flags=re.M)]
    assert ROOT / "docs" / "plate.png" in found
    assert [path for path in found if not path.is_file()] == []


def test_the_sidebar_lists_every_page_also_one_that_the_index_does_not_name() -> None:
    names = [*site_pages.list_page_names(), "new-page"]
    contents = site_pages.build_contents((DOCS / "index.md").read_text(), names)
    assert set(re.findall(r"^[\w-]+$", contents, flags=re.M)) == set(names)
    how_to = contents.partition(":caption: How-to pages")[2].partition("```")[0]
    assert "\nnew-page\n" in how_to


def test_the_site_says_where_the_repository_is_and_how_to_clone_it() -> None:
    address = "https://git.example.org/Lab/Repository"
    pages = {name: (DOCS / f"{name}.md").read_text() for name in ("start-here", "index", "jobs")}
    named = {name: site_pages.name_repository(text, f"docs/{name}", address) for name, text in pages.items()}
    assert f"\n    git clone {address}\n    cd Repository\n" in named["start-here"]
    assert f"]({address}/issues/new/choose)" in named["index"]
    assert named["jobs"] == pages["jobs"]


def test_each_marker_has_a_screen_that_the_script_makes() -> None:
    code = Path(screenshots.__file__).read_text()
    text = "\n".join(page.read_text() for page in PAGES)
    markers = re.findall(r"<!-- screen: ([\w-]+) -->", text)
    assert len(markers) >= 8
    assert [name for name in markers if f'"{name}"' not in code] == []
    assert len(screenshots.MARKER.findall(text)) == len(markers) == len(set(markers))


def test_a_screen_is_replaced_without_its_neighbors() -> None:
    text = "Before.\n\n<!-- screen: a -->\n    old\n\n    more\n\nAfter.\n\n    other\n"
    assert screenshots.MARKER.sub(lambda match: match[1] + screenshots.indent("new\n\nlast"), text) == (
        "Before.\n\n<!-- screen: a -->\n    new\n\n    last\n\nAfter.\n\n    other\n"
    )


def test_the_site_loads_nothing_from_other_hosts() -> None:
    files = [path for folder in ("_static", "_templates", "pictures") for path in (DOCS / folder).iterdir()]
    text = "\n".join(path.read_text() for path in files).replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?://|//\w|@import|url\(", text) == []


@pytest.mark.long
@pytest.mark.parametrize("page", list(FIRST_MONITOR_CODES))
def test_the_commands_of_a_page_work_one_after_the_other(page: str, tmp_path: Path) -> None:
    repository = folder = tmp_path / "Distributed-Something"
    page_commands.copy_repository(repository)
    env = page_commands.build_environment(repository)
    codes: list[int] = []
    try:
        for line in page_commands.list_commands(page):
            if line.startswith("cd "):
                folder = folder / line.removeprefix("cd ")
                program = (DOCS / page).read_text().partition("```python\n")[2].partition("```")[0]
                (folder / "worker" / "scripts" / "means.py").write_text(program)
                continue
            completed = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True)
            if " monitor " in line:
                codes.append(completed.returncode)
            else:
                assert completed.returncode == 0, f"{line}\n{completed.stdout}\n{completed.stderr}"
    finally:
        subprocess.run(["bash", "-c", "python run.py --local stop --yes"], cwd=folder, env=env)
    assert codes == [FIRST_MONITOR_CODES[page], *[0] * (len(codes) - 1)]
