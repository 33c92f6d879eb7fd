"""The site's own style sheet, on top of the theme's."""

STYLE = """\
/* Figures are drawn on white: they keep it in the dark, undimmed, with room around them. */
.bd-article img { background: #fff !important; border-radius: 6px; }
html[data-theme="dark"] .bd-article img { padding: 8px; filter: none !important; }
.bd-article figcaption, .bd-article figcaption p { text-align: left; color: var(--pst-color-text-muted) !important; }
.bd-article pre { font-size: .78rem; } /* most lines of 100 characters fit at 1440 pixels */
/* Wide things scroll inside their box. */
.bd-content .cell_output .output { overflow-x: auto; }
.bd-content .pst-scrollable-table-container { overflow-x: auto; }
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
/* Phones: a figure keeps a size at which it can be read, and scrolls in its box. */
@media (max-width: 600px) {
  .bd-article .cell_output, .bd-article figure { overflow-x: auto; }
  .bd-article .cell_output img, .bd-article figure img { min-width: 600px; max-width: none; }
  .bd-article .headerlink { display: none; }
}
/* Links to the glossary are quiet. */
a.term-link { text-decoration: underline dotted; color: inherit; }
a.term-link:hover { color: var(--pst-color-link-hover); }
/* Hints. */
.bd-content details:not(.toggle-details) { border-left: 3px solid var(--pst-color-border);
  padding: .2rem .8rem; margin: .8rem 0; }
.bd-content details > summary { cursor: pointer; }
"""
