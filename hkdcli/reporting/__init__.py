"""Reporting: results and wrong records as one page for a browser, and as Markdown."""
