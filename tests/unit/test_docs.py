"""The documentation holds together: links lead somewhere, decisions are numbered, listed and complete."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])
DECISIONS = sorted((CHECKOUT / "docs" / "decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(page: Path) -> list[str]:
    """Relative targets in a page, without their anchors; code blocks hold none."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = [target.split("#")[0] for target in LINK.findall(prose)]
    return [target for target in targets if target and "://" not in target and not target.startswith("mailto:")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    missing = [target for target in links(page) if not (page.parent / target).exists()]
    assert not missing


def test_every_page_is_reached_from_the_index() -> None:
    start = CHECKOUT / "docs" / "index.md"
    seen, waiting = {start}, [start]
    while waiting:
        page = waiting.pop()
        linked = {(page.parent / target).resolve() for target in links(page)}
        linked = {target for target in linked if target.suffix == ".md" and target.is_file()}
        waiting += linked - seen
        seen |= linked
    unreached = [str(page) for page in PAGES if page.is_relative_to(CHECKOUT / "docs") and page not in seen]
    assert not unreached


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_decision_is_complete(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequences"]
