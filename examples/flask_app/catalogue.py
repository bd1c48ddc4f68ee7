"""What the shop sells."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    slug: str
    name: str
    note: str
    cents: int


_ALL = (
    Product("teapot", "Brown teapot", "Stoneware, pours without a drip", 4800),
    Product("cup", "Morning cup", "Holds exactly one good thought", 1600),
    Product("tin", "Oolong, in a tin", "Half dark, half green, all spring", 2150),
    Product("kettle", "Copper kettle", "Sings when it is ready", 8900),
    Product("whisk", "Bamboo whisk", "Eighty tines, cut by hand", 2400),
    Product("honey", "Heather honey", "From the hill behind the shop", 950),
    Product("biscuits", "Oat biscuits", "Twelve, or fewer by the evening", 620),
    Product("glass", "Hourglass", "Three minutes of quiet", 1375),
)

CATALOGUE = {product.slug: product for product in _ALL}
MAX_COUNT = 99


def price(cents: int) -> str:
    """``4800`` is ``€48.00``."""
    return f"€{cents // 100}.{cents % 100:02}"


def total(cart: dict[str, int]) -> int:
    """What the cart costs, in cents."""
    return sum(CATALOGUE[slug].cents * count for slug, count in cart.items())
