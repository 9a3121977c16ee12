"""Looks names up by Python's resolver. Prints `name address,address` or `name -`."""
import socket
import sys

for name in sys.argv[1:]:
    try:
        found = sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
        print(name, ",".join(found))
    except OSError:
        print(name, "-")
