#!/usr/bin/env python
"""Holds every link and every resource of a built site to what it points at: the file is there, and so is the anchor in
it; and no page asks the network for anything. Exits with 1 where one does not."""

import argparse
import html.parser
import sys
import urllib.parse
from pathlib import Path

# What a page loads by itself, rather than on a click.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("object", "data")}
# Links that load nothing: they say where the page stands.
QUIET = {"canonical", "next", "prev", "index", "search", "license", "author"}


class Page(html.parser.HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = {"", "top"}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors.update(found[name] for name in ("id", "name") if found.get(name))
        for name in ("href", "src", "data"):
            if found.get(name) is None:
                continue
            if (tag, name) in LOADED and not QUIET & set((found.get("rel") or "").split()):
                self.loaded.append(found[name])
            elif tag == "a":
                self.links.append(found[name])


def broken(folder):
    """A line for each link that leads nowhere, and for each thing that is asked of the network."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        for url in {*page.links, *page.loaded}:
            parts = urllib.parse.urlsplit(url)
            where = f"{path.relative_to(folder.resolve())}: {url}"
            if parts.scheme or parts.netloc:
                if url in page.loaded and parts.scheme != "data":
                    yield f"{where} is loaded from the network"
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{where} leads to no file"
            elif (
                parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].anchors
            ):
                yield f"{where} leads to no anchor"
    if not pages:
        yield f"{folder} holds no page"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the built site")
    lines = list(broken(parser.parse_args(argv).folder))
    print("\n".join(lines) or "every link leads somewhere, and nothing is loaded from the network")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
