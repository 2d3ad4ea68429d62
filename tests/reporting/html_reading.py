"""HTML as tests look at it: the elements, their attributes and texts."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: (tag, attributes) of each element, in order.
        skeleton: tags with the names of their attributes, and ends of tags.
        texts: [(tag that it is in, text)].
    """

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.skeleton, self.texts, self.tag = [], [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.elements.append((tag, dict(attrs)))
        self.skeleton.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag):
        self.skeleton.append((f"/{tag}",))

    def handle_comment(self, data):
        self.skeleton.append(("comment", data))

    def handle_data(self, data):
        self.texts.append((self.tag, data))

    @property
    def text(self):
        return " ".join(" ".join(data for tag, data in self.texts if tag not in ("script", "style")).split())

    def find(self, tag, **wanted):
        """Attributes of the elements of a tag that have these among theirs; `class_`: one class of theirs."""
        found = [attributes for name, attributes in self.elements if name == tag]
        kind = wanted.pop("class_", None)
        return [
            each
            for each in found
            if all(each.get(name) == value for name, value in wanted.items())
            and (kind is None or kind in (each.get("class") or "").split())
        ]
