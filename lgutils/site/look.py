"""The site's own looks, on top of the theme's: its style sheet, and links as badges."""

import html
from collections.abc import Mapping

from lgutils.report.ledgers import PHONE

SLIM = "-narrow"  # ends the name of a figure's form for phones

STYLE = (
    """\
/* Figures are drawn on white. In the dark, plots turn round and keep their hues; images keep their colours,
   undimmed, in a frame. */
.bd-article img { background: #fff !important; border-radius: 6px; }
html[data-theme="dark"] .bd-article img { border: 6px solid #fff; filter: none !important; }
html[data-theme="dark"] .bd-article img.plot { border: 0; filter: invert(.91) hue-rotate(180deg) saturate(1.3) brightness(1.15) !important; }
.bd-article img.narrow { display: none; }
.bd-article figcaption, .bd-article figcaption p { text-align: left; color: var(--pst-color-text-muted) !important; }
.bd-article pre { font-size: .78rem; } /* lines of 100 characters fit at 1440 pixels */
/* Wide things scroll inside their box, with a bar that stays and a shadow on the side where more is. */
.bd-content .cell_output .output, .bd-content .pst-scrollable-table-container { overflow-x: auto; }
.bd-content :is(.cell_output .output, .pst-scrollable-table-container, pre, .scroll) {
  --under: var(--pst-color-background);
  --more: color-mix(in srgb, var(--pst-color-text-muted) 50%, transparent); background:
    linear-gradient(to right, var(--under) 40%, transparent) left / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--under) 40%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to right, var(--more), transparent) left / .6rem 100% no-repeat scroll,
    linear-gradient(to left, var(--more), transparent) right / .6rem 100% no-repeat scroll,
    var(--under); }
.bd-content pre { --under: var(--pst-color-surface) !important; }
.bd-content div.cell_output .text_html.text_html { /* no white slab in the dark */
  color: var(--pst-color-text-base) !important; background-color: transparent !important; padding: 0 !important; }
.bd-content ::-webkit-scrollbar { height: .55rem; width: .55rem; }
.bd-content ::-webkit-scrollbar-thumb { background: var(--pst-color-text-muted); border-radius: .3rem; }
.bd-content ::-webkit-scrollbar-track { background: var(--pst-color-surface); }
mjx-container[display="true"] { overflow-x: auto; overflow-y: hidden; max-width: 100%; }
mjx-container { max-width: 100%; }
.bd-article { overflow-wrap: break-word; }
dl.py .sig, .bd-article code.literal, .prev-next-title { overflow-wrap: anywhere; }
.prev-next-area a, .prev-next-info { min-width: 0; max-width: 100%; }
.prev-next-area a { flex: 0 1 50%; }
.bd-article code.literal .pre { white-space: pre-wrap; }
.bd-article td code.literal { overflow-wrap: normal; }
.bd-article td code.literal .pre { white-space: nowrap; }
.bd-article table.dataframe :is(th, td) { padding: .2rem .7rem; }
.bd-article .headerlink { position: absolute; } /* takes no line of its own */
/* Phones: a figure has a form of its own. */
@media (max-width: 600px) {
  .bd-article img.wide { display: none; }
  .bd-article img.narrow { display: block; width: 100%; max-width: 430px; margin: auto; }
  .bd-article .headerlink { display: none; }
}
/* Links to the glossary are quiet. */
a.term-link { text-decoration: underline dotted; color: inherit; }
a.term-link:hover { color: var(--pst-color-link-hover); }
/* Hints, and boxes that hold the statistics. */
.bd-content details:not(.toggle-details, .hide, .sd-dropdown) {
  border-left: 3px solid var(--pst-color-border); padding: .2rem .8rem; margin: .8rem 0; }
.bd-content details.statistics { border: 1px solid var(--pst-color-border) !important;
  border-left: 4px solid var(--pst-color-primary) !important; border-radius: 6px;
  background: var(--pst-color-surface); padding: .5rem 1rem; }
.bd-content details.statistics > summary { font-weight: 600; }
.bd-content details > summary { cursor: pointer; }
.bd-content summary:focus-visible { outline: 3px solid var(--pst-color-primary); outline-offset: 3px; }
/* Links under titles, and the cards of the first page. */
.badge-line { display: flex; flex-wrap: wrap; gap: .5rem; }
a.badge-link { border: 1px solid var(--pst-color-border); border-radius: 1rem; padding: .1rem .8rem;
  font-size: .85rem; text-decoration: none; color: var(--pst-color-text-base); }
a.badge-link:hover { border-color: var(--pst-color-primary); color: var(--pst-color-link-hover); }
.hero img { width: min(100%, 40rem); }
.sd-card.chapter .sd-card-img-top { border-radius: 0; aspect-ratio: 8 / 5; object-fit: contain; }
/* Screens with room: the list of sections takes less of it. */
@media (min-width: 1200px) {
  .bd-sidebar-secondary { flex: 0 0 13rem; padding: 0 1rem; }
  .bd-main .bd-content .bd-article-container { max-width: calc(100% - 13rem); }
  .bd-main .bd-content:not(:has(.bd-sidebar-secondary)) .bd-article-container { max-width: 62rem; }
}
"""
    + PHONE
)


def badges(links: Mapping[str, str]) -> str:
    """A line of HTML links: text -> address."""
    made = (
        f'<a class="badge-link" href="{html.escape(to)}">{html.escape(text)}</a>'
        for text, to in links.items()
    )
    return f'<p class="badge-line">{" ".join(made)}</p>'
