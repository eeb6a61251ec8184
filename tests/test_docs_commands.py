"""What the documentation tells to type works as it stands, or says beside it why no test types it."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs_reader import SUBSTITUTES, Home, make_home, reader_of
from tests.documented import PAGES, ROOT, Block, blocks_of, calls_of, require_command

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = ("sh", "python")
READ = ("json", "toml", "yaml")
TYPED = [block for block in BLOCKS if block.language in RUN and block.marker in ("", "run alone")]
SLOW = {"clients/python/README.md", "docs/operations.md", "docs/reports.md", "docs/training.md"}
NEEDS = {"echoscu": "echoscu", "storescu": "storescu", "curl": "curl", "jq": "jq"}  # word in a block: program


def test_every_fence_is_seen_and_named() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.search(r"^[ \t>]+(```|~~~)|^~~~", text, flags=re.M), f"{page}: fences begin their line with ```"
        assert text.count("\n```") == 2 * len(blocks_of(page)), page
        for block in blocks_of(page):
            assert block.language, f"{block}: name the language (text, if none)"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    kind, _, rest = block.marker.partition(" ")
    match kind, rest.partition(" ")[0]:
        case "not", "run:":
            assert len(rest) > len("run: because"), f"{block}: say why"
        case "run", "by":
            elsewhere = ROOT / rest.removeprefix("by ")
            assert elsewhere.is_file(), f"{block}: there is no {elsewhere.name}"
            text = elsewhere.read_text(encoding="utf-8")
            said = [Path(block.page).name, *(line.partition("#")[0].strip() for line in block.text.splitlines())]
            said += [
                '"' + '", "'.join(call.split()[1:3]) + '"' for call in calls_of(block)
            ]  # alta("db", "backup", ...)
            assert any(words and words in text for words in said), f"{block}: {elsewhere.name} runs none of it"
        case "file", _:
            assert (Path("/") / rest).name, f"{block}: name the file"
        case ("", _) | ("run", "alone"):
            assert block.language in (*RUN, *READ, "text"), f"{block}: nothing runs {block.language}; say not run: why"
        case _:
            pytest.fail(f"{block}: what is {block.marker!r}?")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in READ], ids=str)
def test_what_is_to_be_read_can_be(block: Block) -> None:
    match block.language:
        case "toml":
            tomllib.loads(block.text)
        case "yaml":
            list(yaml.safe_load_all(block.text))
        case "json":
            rest = block.text.strip()
            while rest:  # several documents, one after the other
                _, end = json.JSONDecoder().raw_decode(rest)
                rest = rest[end:].lstrip()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_ours_exists_with_its_options(page: str) -> None:
    for block in blocks_of(page):
        if block.language == "sh":
            for call in calls_of(block):
                require_command(call, as_it_stands=True)
    text = (ROOT / page).read_text(encoding="utf-8")
    for inline in re.findall(r"`((?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?alta [^`]+)`", text):
        call = "alta " + re.sub(r"\[([^]]*)\]", r"\1", inline.partition("alta ")[2])
        first, *others = re.split(r"\|", call)
        require_command(first, as_it_stands=False)
        for other in others:  # `alta keys create|list|revoke`
            require_command(f"{first.rpartition(' ')[0]} {other}", as_it_stands=False)


@pytest.mark.parametrize("pattern", SUBSTITUTES)
def test_every_substitute_is_for_something(pattern: str) -> None:
    assert any(re.search(pattern, block.text, flags=re.M) for block in TYPED)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with make_home(tmp_path_factory.mktemp("docs")) as made:
        yield made


def in_order(page: str) -> list[Block]:
    """What a reader does of a page, from its first line to its last; files are written, too."""
    return [block for block in BLOCKS if block.page == page and (block in TYPED or block.marker.startswith("file "))]


def require_programs(block: Block) -> None:
    for word, program in NEEDS.items():
        if re.search(rf"\b{word}\b", block.text) and not Path("/usr/bin", program).exists():
            pytest.skip(f"{block}: {program} is not installed")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in sorted({block.page for block in TYPED if block.marker != "run alone"})
    ],
)
def test_a_page_can_be_followed(page: str, home: Home, tmp_path: Path) -> None:
    with reader_of(home, tmp_path, page) as reader:
        for block in in_order(page):
            if block.marker.startswith("file "):
                (reader.folder / block.marker.removeprefix("file ")).write_text(block.text, encoding="utf-8")
            elif block.marker != "run alone":
                require_programs(block)
                reader.run(block)


@pytest.mark.parametrize("block", [block for block in TYPED if block.marker == "run alone"], ids=str)
def test_a_block_can_be_run_alone(block: Block, home: Home, tmp_path: Path) -> None:
    require_programs(block)
    with reader_of(home, tmp_path, block.page) as reader:
        reader.run(block)


def test_the_reader_notices_what_fails(home: Home, tmp_path: Path) -> None:
    with reader_of(home, tmp_path, "a page") as reader:
        for text in (
            "curl http://localhost:8000/v1/studies/9.9",
            "curl http://localhost:8000/readyz\nalta archive restore 9.9",
            "alta receive dicom",  # does not say who may send
            "alta serve --tls",
        ):
            with pytest.raises(AssertionError, match="ended with"):
                reader.run(Block("a page", 1, "sh", text + "\n", ""))
