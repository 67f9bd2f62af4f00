"""The origin of the site: the files of `site/`, and some data that says how often it was asked.

python3 origin.py PORT
"""

import collections
import email.utils
import hashlib
import json
import pathlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SITE = pathlib.Path(__file__).parent / "site"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

# What the cache may do with the data: see the table on the page.
DATA = {
    "/data/fresh": ("max-age=5", 0),
    "/data/stale": ("max-age=2, stale-while-revalidate=30", 0.4),
    "/data/slow": ("max-age=8", 1.5),
    "/data/edge": ("max-age=1", 0),
    "/data/private": ("private, max-age=60", 0),
}

asked = collections.Counter()
lock = threading.Lock()


class Origin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "origin"
    sys_version = ""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        with lock:
            asked[path] += 1
            count = asked[path]
        if path == "/healthz":
            self.answer(200, "text/plain", b"ok\n", {"cache-control": "no-store"})
        elif path == "/me":
            body = json.dumps({"address": self.headers.get("x-forwarded-for"), "asked": count})
            self.answer(200, "application/json", body.encode(), {"cache-control": "no-store"})
        elif path in DATA:
            control, delay = DATA[path]
            time.sleep(delay)
            body = json.dumps({"asked": count, "query": query, "at": time.strftime("%H:%M:%S")})
            fields = {"cache-control": control, "cache-tag": "data"}
            if path == "/data/edge":
                # One word for browsers, another for the edge (RFC 9213).
                fields["cdn-cache-control"] = "max-age=20"
            self.answer(200, "application/json", body.encode(), fields)
        else:
            self.file(path)

    do_HEAD = do_GET

    def file(self, path):
        file = (SITE / path.lstrip("/")).resolve()
        if file.is_dir():
            file = file / "index.html"
        if not file.is_relative_to(SITE.resolve()) or not file.is_file():
            self.answer(404, "text/plain", b"not here\n", {})
            return
        body = file.read_bytes()
        tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
        fields = {
            "etag": tag,
            "last-modified": email.utils.formatdate(file.stat().st_mtime, usegmt=True),
            "cache-tag": "site",
        }
        if file.suffix != ".html":
            fields["cache-control"] = "max-age=600"
        if self.headers.get("if-none-match") == tag:
            self.answer(304, None, b"", fields)
            return
        self.answer(200, TYPES.get(file.suffix, "application/octet-stream"), body, fields)

    def answer(self, status, kind, body, fields):
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, form, *values):
        if self.path != "/healthz":
            print(form % values, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Origin) as server:
        server.serve_forever()
