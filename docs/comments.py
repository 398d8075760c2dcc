"""An extension of the site's API pages: a field's comment stands for the docstring it lacks."""

import re
from typing import Any

from griffe import Attribute, Docstring, Extension


class FieldComments(Extension):
    """Shows what the code says of a field in the comment behind it."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Take the comment behind a class's attribute for its docstring."""
        if attr.docstring or not (attr.parent and attr.parent.is_class and attr.endlineno):
            return
        line = attr.lines_collection[attr.filepath][attr.endlineno - 1]
        if comment := re.search(r"  # (?!type:)(.+)$", line):
            attr.docstring = Docstring(comment[1], lineno=attr.endlineno, parent=attr)
