"""Plain text as HTML: escaped, with `code` as code."""

import re
from html import escape

CODE = re.compile("`([^`]+)`")


def inline(text: str) -> str:
    """Returns the HTML of a sentence: everything in it is escaped, and what stands between backticks becomes code."""
    return CODE.sub(r"<code>\1</code>", escape(text))
