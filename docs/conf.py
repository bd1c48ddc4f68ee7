"""Sphinx configuration: Markdown pages, the reference from docstrings, nothing from the network."""

from sphinx.ext.napoleon import GoogleDocstring

project = "wsgi-sessions"
author = "The wsgi-sessions authors"
project_copyright = "2026, the wsgi-sessions authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "wsgi-sessions"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
nitpicky = False
default_role = "code"
html_static_path = ["_static"]
html_css_files = ["tables.css"]


# Napoleon takes what stands before a colon in the first line of an attribute's or a property's
# docstring for its type. Ours are prose there, so they are formatted like a method's.
_PROSE = {"attribute", "data", "property"}
_written: dict[str, list[str]] = {}


def _remember(app, what, name, obj, options, lines):
    if what in _PROSE:
        _written[name] = list(lines)


def _format_as_prose(app, what, name, obj, options, lines):
    if name in _written:
        docstring = GoogleDocstring(
            _written.pop(name), app.config, app, "method", name, obj, options
        )
        lines[:] = docstring.lines()


# Defaults are shown as they are written, and a reader can't look up the names of constants.
_CONSTANTS = {
    "_COOKIE": "Cookie()",
    "_LIFETIME": "Lifetime()",
    "LABEL_PARTS": "('ip', 'user_agent')",
    "DEFAULT_KEY": "'wsgi_sessions.session'",
    "DEFAULT_TABLE": "'wsgi_sessions'",
}


def _show_signature(app, what, name, obj, options, signature, return_annotation):
    # The middleware makes the sessions; what it passes to them is nobody else's business.
    if what == "class" and name.endswith("Session"):
        return "", None
    for constant, value in _CONSTANTS.items():
        signature = signature and signature.replace(f"= {constant}", f"= {value}")
    return signature, return_annotation


def setup(app):
    app.connect("autodoc-process-signature", _show_signature)
    app.connect("autodoc-process-docstring", _remember, priority=400)
    app.connect("autodoc-process-docstring", _format_as_prose, priority=600)  # napoleon's is 500
