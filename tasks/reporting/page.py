"""The report as a page that any browser opens, without a server and without the network."""

from __future__ import annotations

from html import escape

_STYLE = """
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; font-size: 0.92rem; }
th, td { border: 1px solid #d5d5d5; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
th { background: #f3f3f3; }
img { max-width: 100%; }
blockquote { margin: 1rem 0; padding: 0.2rem 1rem; border-left: 4px solid #d55e00; background: #fff6f0; }
code { background: #f3f3f3; padding: 0 0.2rem; overflow-wrap: anywhere; }
"""


def report_page(markdown: str, *, title: str) -> str:
    """Return a report in Markdown as one HTML page that needs nothing else; HTML within the Markdown is shown as text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}</body></html>\n'
