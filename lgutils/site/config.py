"""Sphinx's settings for the site, as plain values."""

from typing import Any

from lgutils import __version__
from lgutils.site.launch import Target

TITLE = "Learngene, made real"
SUPPRESSED = {  # kind of warning -> why it is none for us
    "myst.header": "solutions repeat the chapters' third-level headings without the second level",
}


def settings(target: Target | None = None) -> dict[str, Any]:
    """All that sphinx is told: stored outputs only, nothing from the network."""
    return {
        "project": "lgutils",
        "author": "the lgutils maintainers",
        "html_title": TITLE,
        "release": __version__,
        "language": "en",
        "extensions": [
            "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax",
            "sphinx_copybutton", "lgutils.site.hooks", "lgutils.site.docstrings",
        ],
        "suppress_warnings": list(SUPPRESSED),
        **_text(),
        **_reference(),
        **_pages(target),
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


def _pages(target: Target | None) -> dict[str, Any]:
    """The look, and the buttons."""
    theme: dict[str, Any] = {
        "navbar_persistent": [],  # the theme's second search bar
        "show_toc_level": 2,
        "home_page_in_toc": True,
        "use_download_button": True,
    }
    if target:
        theme |= {
            "repository_url": target.repository,
            "repository_branch": target.site_branch,
            "path_to_docs": "launch",
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab",
            },
        }  # fmt: skip
        if target.repository.startswith("https://github.com/"):  # Colab opens nothing else
            theme["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    return {
        "html_theme": "sphinx_book_theme",
        "html_theme_options": theme,
        "html_static_path": ["_static"],
        "html_css_files": ["site.css"],
        "html_context": {"default_mode": "auto"},
        "html_show_sphinx": False,
        "html_use_index": False,
        "html_domain_indices": False,
        "html_show_search_summary": False,  # it fetches pages, which file:// forbids
    }
