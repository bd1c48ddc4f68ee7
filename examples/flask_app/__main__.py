"""Start the shop: python -m flask_app [port]. Without a port: 8000, or a free one."""

import socket
import sys

from waitress.server import create_server  # type: ignore[import-untyped] # has none

from . import make_app


def free_port(*wanted: int) -> int:
    """The first of these ports that isn't taken; 0: any."""
    for port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit(f"port {wanted[0]} can't be used; choose another one")


def main() -> None:
    port = free_port(int(sys.argv[1])) if len(sys.argv) > 1 else free_port(8000, 0)
    # The proxies in front are the middleware's business (TRUSTED_PROXIES), so waitress mustn't
    # remove what they say.
    server = create_server(
        make_app(), host="127.0.0.1", port=port, clear_untrusted_proxy_headers=False
    )
    print(f"The shop is open: http://localhost:{port}  (Ctrl-C closes it)", flush=True)
    server.run()


if __name__ == "__main__":
    main()
