"""docs/security.md says what the tests say."""

from __future__ import annotations

from security.decisions import AGAINST, DIFFERENT
from security.page import PAGE, by_requirement, page, requirements


def test_every_requirement_has_a_test_or_a_reason() -> None:
    tested = by_requirement()

    missing = [
        row["id"] for row in requirements() if row["id"] not in tested and row["id"] not in AGAINST
    ]

    assert missing == []


def test_what_was_decided_against_has_no_test_and_what_is_different_has_one() -> None:
    tested = by_requirement().keys()
    known = {row["id"] for row in requirements()}

    assert tested & AGAINST.keys() == set()
    assert DIFFERENT.keys() <= tested
    assert tested <= known
    assert AGAINST.keys() <= known


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(AGAINST, DIFFERENT), "run tests/security/page.py"
