"""The documentation builds without a warning, has every public name, and what it shows runs."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from public_names import public_names

import grain_molmo as gm
from grain_molmo.stages import STAGES
from grain_molmo.tools.cli import main, main_parser

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/recipes").glob("*.md"))]
BLOCK = re.compile(r"(?ms)^(?:<!-- not run: (?P<not_run>[^\n]+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$")


class Block(NamedTuple):
    """A block of code of a page.

    Attributes:
        page: where it is.
        line: of its first line, from 1.
        language: "python", "pycon", "bash".
        text: what it says.
        not_run: why it cannot run here, or "".
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str


def blocks_of(page: Path, *languages: str) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match["language"] in languages:
            line = text.count("\n", 0, match.start("text")) + 1
            yield Block(page, line, match["language"], match["text"], match["not_run"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CONTRIBUTING says but for running the notebooks, which have a test of their own."""
    out = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-n", "-q", "-E", "-D", "nb_execution_mode=off"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, "-d", out / "doctrees", ROOT / "docs", out / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return out / "html"


@pytest.mark.xdist_group("site")
def test_the_site_builds_without_warnings_and_has_every_public_name(site: Path):
    with (site / "objects.inv").open("rb") as file:
        names = InventoryFile.load(file, "", lambda base, path: path)
    there = {name for kind, entries in names.items() if kind.startswith("py:") for name in entries}
    missing = [
        each.name
        for each in public_names()
        if each.name not in there
        and f"{each.value.__module__}.{each.value.__qualname__}" not in there  # of what is offered in two places, one
        and f"grain_molmo.{each.value.__qualname__}" not in there
        and not (each.owner and any(f"{base}.{each.value.__name__}" in there for base in names_of_bases(each.owner)))
    ]
    assert missing == []


def names_of_bases(cls: type) -> list[str]:
    """Names that the classes may stand under from which it has its methods."""
    return [f"{module}.{base.__qualname__}" for base in cls.__mro__ for module in ("grain_molmo", base.__module__)]


@pytest.mark.xdist_group("site")
def test_pages_of_the_site_name_no_place_of_this_machine(site: Path):
    places = (str(ROOT), str(Path.home()), sys.prefix)
    found = [
        (page.name, place)
        for page in site.rglob("*.html")
        for place in places
        if place != "/" and place in page.read_text(encoding="utf-8")
    ]
    assert found == []


@pytest.fixture
def reader(all_sets: Path, tmp_path: Path) -> Path:
    """A folder as a reader of a page has it: DATA with sample rows of all sets, and some files of one's own."""
    folder = tmp_path
    shutil.copytree(all_sets, folder / "DATA", copy_function=os.link)  # a store's files are replaced, never changed
    (folder / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (160, 120), (80 * number, 120, 60)).save(folder / f"photos/{number}.jpg")
    prompt = '{{"qid": "sample_{0}", "prompt": "{0}+2=", "solutions": ["{1}"]}}\n'
    (folder / "prompts.jsonl").write_text("".join(prompt.format(n, n + 2) for n in range(40)))
    (folder / "features/dinov2").mkdir(parents=True)
    features_ND = np.random.default_rng(0).normal(size=(600, 768)).astype(np.float32)
    np.savez(folder / "features/dinov2/layer_23.npz", features=features_ND, labels=np.arange(600) % 7)
    return folder


@pytest.mark.xdist_group("all_sets")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs_as_it_stands(page: Path, reader: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(reader)
    module = ModuleType("page")  # classes of a module that there is can be pickled
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = vars(module)
    names.update(readers_own())
    for block in blocks_of(page, "python", "pycon"):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "pycon":
            test = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line)
            report: list[str] = []
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(test, out=report.append, clear_globs=False)
            assert not report, "".join(report)
            names.update(test.globs)
        else:
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            if not block.not_run:
                exec(code, names)
    for value in list(names.values()):
        if isinstance(value, gm.Loader):
            value.close()


def readers_own() -> dict[str, Any]:
    """What the pages speak of and do not define: a model, and what it gives."""
    width = 8
    return {
        "vision_model": lambda images: np.zeros((*images.shape[:3], width), np.float32),
        "connector": lambda pooled: pooled,
        "embedding": np.zeros((gm.load_tokenizer("bytes").vocab_size, width), np.float32),
        "cross_entropy": np.ones((1, 1), np.float32),
        "generate": lambda *arrays: [""] * len(arrays[0]),
    }


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The words behind `grain-molmo` of each line of a page's shell blocks, with its place."""
    for block in blocks_of(page, "bash"):
        lines = block.text.replace("\\\n", "  ").splitlines()
        for number, line in enumerate(lines, start=block.line):
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part.partition(" > ")[0], comments=True)
                if words[:1] == ["grain-molmo"]:
                    yield f"{page.name}:{number}", words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_page_are_ones_that_there_are(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Each is read by its own parser, and goes no further than that."""
    parse = ArgumentParser.parse_args

    def parse_and_stop(parser: ArgumentParser, *words: Any) -> None:
        parse(parser, *words)
        parser.exit(0)

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_and_stop)
    for where, words in commands(page):
        assert main(words) == 0, (where, words, capsys.readouterr().err)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_the_text_of_a_page_have_names_that_there_are(page: Path):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    named = set(re.findall(r"`grain-molmo ([a-z]\w*)", text))
    listed = main_parser().format_help()
    assert [name for name in named if not re.search(rf"(?m)^ +{name} ", listed)] == []


@pytest.mark.parametrize("page", ["README.md", "docs/batch.md"])
def test_tables_of_the_stages_have_their_numbers(page: str):
    rows = re.findall(r'(?m)^\| `"(\w+)"` \| (.*) \|$', (ROOT / page).read_text(encoding="utf-8"))
    assert [name for name, _ in rows] == list(STAGES)
    for name, cells in rows:
        stage = STAGES[name]
        pooled = [stage.pooled_per_row] if page == "docs/batch.md" else []
        numbers = [stage.seq_len, stage.crops_per_row, *pooled, stage.batch_size]
        frames = f"{stage.max_frames:,}" if stage.max_frames else "–"
        images = [] if pooled else [f"{stage.crops_per_row * 729 * 588 / 1e6:.0f} MB"]
        assert cells.split(" | ") == [*(f"{number:,}" for number in numbers), frames, *images]


def test_the_list_of_extras_is_that_of_the_package():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = (ROOT / "README.md").read_text().partition("| extra |")[2].partition("<!-- /install -->")[0]
    listed = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2))
    assert sorted(listed) == sorted(declared)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_files_lead_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
