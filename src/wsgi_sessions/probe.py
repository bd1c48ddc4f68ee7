"""ProxyProbe: a page that shows the chain of proxies as it arrives, and which number is right."""


class ProxyProbe:
    """Being written."""
