"""What proxies write into headers, at its edges; test_proxies has the whole."""

from __future__ import annotations

import pytest

from wsgi_sessions.proxies.parsing import (
    element_before,
    entries_from_right,
    entry_before,
    nth_from_right,
    parse_host,
    parse_node,
    parse_prefix,
)


@pytest.mark.parametrize(
    ("header", "count", "found"),
    [
        ("a,b,c", 1, ("c", 3)),
        ("a,b,c", 3, ("a", -1)),
        ("a,b,c", 4, (None, -1)),
        (",x", 2, ("", -1)),
    ],
)
def test_entries_are_counted_from_the_right(
    header: str, count: int, found: tuple[str | None, int]
) -> None:
    assert nth_from_right(header, count, entry_before) == found


@pytest.mark.parametrize(
    ("header", "most", "found"),
    [
        (None, 3, []),
        ("", 3, [""]),
        ("a, b,c", 2, ["c", "b"]),
        ("a, b,c", 3, ["c", "b", "a"]),
        ("a, b,c", 4, ["c", "b", "a"]),
        (",a", 3, ["a", ""]),
        ("a", 0, []),
    ],
)
def test_all_entries_come_from_the_right(header: str | None, most: int, found: list[str]) -> None:
    assert entries_from_right(header, entry_before, most) == found


def test_all_that_is_left_of_a_quote_without_a_beginning_is_one_malformed_element() -> None:
    assert entries_from_right('for=c,for=a",for=b', element_before, 9) == ["for=b", '"']
    assert entries_from_right('for=a"', element_before, 9) == ['"']


def test_an_entry_has_fewer_than_512_characters() -> None:
    assert entry_before("a," + "x" * 511, 513) == ("x" * 511, 1)
    assert entry_before("a," + "x" * 512, 514) == ("", 1)


def test_only_spaces_and_tabs_are_trimmed() -> None:
    assert entry_before("a, \t\x0bb \t", 8) == ("\x0bb", 1)


@pytest.mark.parametrize("header", ['"a"', '"a"\\'])
def test_an_element_may_begin_with_its_quote(header: str) -> None:
    assert element_before(header, 3) == ('"a"', -1)


@pytest.mark.parametrize("host", ["1.2.3.", "1.2.3.4.", "1.2.3.4.."])
def test_a_host_that_ends_in_a_number_is_an_ipv4_address_or_nothing(host: str) -> None:
    assert parse_host(host) is None


def test_a_host_that_ends_in_a_number_and_more_is_a_name() -> None:
    assert parse_host("1.2.3X") == ("1.2.3x", None)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("/%c3%a9", "/\xc3\xa9"),
        ("/%C3%A9", "/\xc3\xa9"),
        ("/a%2fb", None),
        ("/a%2Fb", None),
        ("/\u017f", None),
    ],
)
def test_escapes_in_a_prefix_are_read_in_any_case(text: str, prefix: str | None) -> None:
    assert parse_prefix(text) == prefix


def test_a_hidden_address_may_be_in_upper_case() -> None:
    assert parse_node("_HIDDEN") == (None, "for_obfuscated")
