"""Sphinx configuration: Markdown pages, the reference from docstrings, nothing from the network."""

project = "wsgi-sessions"
author = "The wsgi-sessions authors"
project_copyright = "2026, the wsgi-sessions authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "wsgi-sessions"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
nitpicky = False
default_role = "code"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
