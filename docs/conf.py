"""Sphinx configuration: everything is built from the repository, nothing is fetched."""

project = "stopladder"
author = copyright = "The stopladder authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["front.css"]
nitpicky = False
myst_enable_extensions = ["html_image"]  # an image for light pages alone, or for dark ones
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
copybutton_exclude = ".linenos, .gp, .go"  # what a user types, without prompts and what is printed
