"""The course as a static site: chapters, how-tos, report and reference, without any network."""

from lgutils.site.build import build

__all__ = ["build"]
