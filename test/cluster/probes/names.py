"""Looks up by Python: `host:NAME`, `ptr:ADDRESS`; its library has no SRV. Prints `question answer,answer milliseconds`."""
import socket
import sys
import time


def look(kind, what):
    if kind == "srv":
        return "?"
    if kind == "ptr":
        return socket.gethostbyaddr(what)[0]
    return ",".join({entry[4][0] for entry in socket.getaddrinfo(what, None, type=socket.SOCK_STREAM)})


for question in sys.argv[1:]:
    start = time.monotonic()
    try:
        found = look(*question.split(":", 1))
    except OSError:
        found = "-"
    print(question, found, round((time.monotonic() - start) * 1000))
