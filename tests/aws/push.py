"""Pushes files to a registry with ORAS: TARGET FILE[:MEDIA_TYPE]... in the current folder. Prints the manifest's digest."""

import sys

import oras.client

target, *files = sys.argv[1:]
client = oras.client.OrasClient(hostname=target.split("/")[0], insecure=True)
response = client.push(target=target, files=files, quiet=True)
print(response.headers["Docker-Content-Digest"])
