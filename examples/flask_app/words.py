"""Times and devices, in words that people use."""

import re
from datetime import UTC, datetime

_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
    ("Python", "Python"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS", "Mac"),
    ("Linux", "Linux"),
)
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def device(user_agent: str) -> str:
    """``Firefox on Windows``. Good enough to know one's own again."""
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "Some browser")
    system = next((name for sign, name in _SYSTEMS if re.search(sign, user_agent)), None)
    return browser if system is None else f"{browser} on {system}"


def ago(moment: datetime) -> str:
    """``2 hours ago``, ``in 13 days``, ``just now``."""
    seconds = round((datetime.now(UTC) - moment).total_seconds(), -1)
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            count = round(abs(seconds) / size)
            words = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "just now" if seconds >= 0 else "in a moment"
