"""The configuration of Sphinx: `python -m sphinx -W --keep-going -j auto docs docs/_build/html`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # docs.pages, and tests.benchmarks for it.

import momentax
from docs.pages import explorer, reference

project = "momentax"
version = release = momentax.__version__
author = "the authors of momentax"
project_copyright = "the authors of momentax, under the license Apache-2.0"
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    "docs.pages",
]
# The first one is that of the pages that autosummary writes.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build", "_generated", "images", "pages"]
if not explorer.exists():
    exclude_patterns.append("explorer.md")
    suppress_warnings = ["toc.excluded", "toc.not_readable"]
templates_path = ["_templates"]
nitpicky = True
smartquotes = False  # Quotes and primes belong to code and formulas.

# Markdown and notebooks. Outputs are those that are committed.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # Scripts from a network.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Names.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # The docstrings say intervals and units, which types do not.
autosummary_filename_map = reference.file_names()
autosummary_generate_overwrite = True
python_maximum_signature_line_length = 76

# Appearance.
html_theme = "sphinx_book_theme"
html_title = "momentax"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_extra_path = ["_generated/extra"]
html_css_files = ["momentax.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}  # Of colours; the theme warns where it is not set.
html_theme_options = {
    "logo": {
        "text": "momentax",
        "alt_text": "momentax",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "collapse_navigation": True,  # Otherwise each page lists all others, and takes long to write.
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # The search is in the sidebar.
}
pygments_style = "friendly"
