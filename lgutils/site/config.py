"""Sphinx's settings for the site, as plain values."""

from collections.abc import Mapping
from typing import Any

from lgutils import __version__

TITLE = "Learngene, made real"
SUPPRESSED = {  # kind of warning -> why it is none for us
    "myst.header": "solutions repeat the chapters' third-level headings without the second level",
}


def settings(badges: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Any]:
    """All that sphinx is told: stored outputs only, nothing from the network.

    Args:
        badges: page -> links under its title, text -> address.
    """
    return {
        "project": "lgutils",
        "author": "the lgutils maintainers",
        "html_title": TITLE,
        "release": __version__,
        "language": "en",
        "extensions": [
            "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax",
            "sphinx_copybutton", "sphinx_design", "lgutils.site.hooks", "lgutils.site.docstrings",
        ],
        "suppress_warnings": list(SUPPRESSED),
        "lgutils_badges": badges or {},
        **_text(),
        **_reference(),
        **_pages(),
    }  # fmt: skip


def _text() -> dict[str, Any]:
    """Notebooks and Markdown."""
    return {
        "nb_execution_mode": "off",
        "nb_merge_streams": True,
        "nb_ipywidgets_js": {},
        "myst_enable_extensions": ["dollarmath", "deflist", "colon_fence"],
        "myst_heading_anchors": 3,
        "mathjax_path": "tex-svg.js",
        "exclude_patterns": ["_static"],
    }


def _reference() -> dict[str, Any]:
    """Docstrings: Google style, `names` in single backticks."""
    return {
        "default_role": "literal",
        "autodoc_member_order": "bysource",
        "python_use_unqualified_type_names": True,
        "python_maximum_signature_line_length": 80,
        "add_module_names": False,
        "autodoc_preserve_defaults": True,
        "napoleon_use_ivar": True,
        "napoleon_custom_sections": [("Attributes", "params_style")],
    }


def _pages() -> dict[str, Any]:
    """The look."""
    theme: dict[str, Any] = {
        "navbar_persistent": [],  # the theme's second search bar
        "show_toc_level": 2,
        "home_page_in_toc": True,
        "use_download_button": True,
    }
    return {
        "html_theme": "sphinx_book_theme",
        "html_theme_options": theme,
        "html_scaled_image_link": False,
        "html_static_path": ["_static"],
        "html_css_files": ["site.css"],
        "html_context": {"default_mode": "auto"},
        "html_show_sphinx": False,
        "html_use_index": False,
        "html_domain_indices": False,
        "html_show_search_summary": False,  # it fetches pages, which file:// forbids
    }
