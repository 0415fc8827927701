"""The frame of a page that stands alone: no script, no network, light and dark, for paper and telephone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CSS = """
:root { color-scheme: light dark; --ground: #f6f7f8; --surface: #fff; --ink: #1b1f24; --soft: #57606a;
  --faint: #767e87; --rule: #d5dade; --blue: #0072b2; --orange: #c65700; --green: #00805c; --tint: #0072b21f;
  --edge: #0003; }
@media (prefers-color-scheme: dark) { :root { --ground: #111417; --surface: #191d21; --ink: #e8eaed; --soft: #abb3bb;
  --faint: #8b949e; --rule: #363d44; --blue: #56b4e9; --orange: #f0904d; --green: #3cc79a; --tint: #56b4e92e;
  --edge: #000a; } }
@media print { :root { color-scheme: light; --ground: #fff; --surface: #fff; --ink: #000; --soft: #444; --faint: #666;
  --rule: #ccc; --blue: #0072b2; --orange: #c65700; --green: #00805c; --tint: #0072b21f; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main, header, footer, nav { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 44px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; letter-spacing: -.015em; font-weight: 650; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 6px; letter-spacing: -.005em; font-weight: 650; }
h3 { font-size: 1rem; margin: 22px 0 4px; font-weight: 650; }
p { margin: 0 0 12px; max-width: 70ch; }
a { color: var(--blue); }
.lead, .note, figcaption, caption, footer { color: var(--soft); }
.lead { margin-top: 6px; }
.note { font-size: .875rem; line-height: 1.5; max-width: 92ch; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; padding-top: 14px; padding-bottom: 14px; font-size: .9rem; }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
section { background: var(--surface); border: 1px solid var(--rule); border-radius: 8px; padding: 22px 24px 18px;
  margin: 0 0 18px; }
.head + .note { margin-top: 16px; }
.head { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 8fr); gap: 20px 36px; align-items: center; }
.score { font-size: clamp(2.8rem, 9vw, 4rem); line-height: 1; font-weight: 650; letter-spacing: -.035em;
  margin: 0 0 8px; }
.score small { font-size: .5em; font-weight: 500; letter-spacing: 0; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 14px 20px; margin: 0; }
dl.facts dt { color: var(--soft); font-size: .8125rem; } dl.facts dd { margin: 0; font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 12px 28px; }
.pair.triple { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 12px 20px; }
figure { margin: 8px 0; min-width: 0; } figcaption { font-size: .875rem; line-height: 1.45; max-width: 66ch; }
.plot svg { display: block; width: 100%; height: auto; } .plot text { fill: var(--ink); }
.plot.square { max-width: 680px; } .plot.square svg { min-width: 420px; }
.scroll { overflow-x: auto; background: linear-gradient(to right, var(--surface) 30px, transparent) 0 0,
  linear-gradient(to left, var(--surface) 30px, transparent) 100% 0, linear-gradient(to right, var(--edge), transparent)
  0 0, linear-gradient(to left, var(--edge), transparent) 100% 0; background-repeat: no-repeat;
  background-size: 60px 100%, 60px 100%, 14px 100%, 14px 100%; background-attachment: local, local, scroll, scroll; }
.scroll + .note { margin-top: 8px; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: .875rem; padding-bottom: 6px; }
caption span { display: block; max-width: calc(100vw - 58px); }
th, td { text-align: right; padding: 5px 7px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; font-size: .8125rem; vertical-align: bottom; }
th:first-child, td.text, th.text { text-align: left; } tbody th { font-weight: 500; }
.scroll th:first-child { position: sticky; left: 0; background: var(--surface); }
td.wrap { white-space: normal; overflow-wrap: anywhere; }
tbody tr:last-child > * { border-bottom: 0; } tbody tr.best > * { font-weight: 650; }
td.bar { width: 17%; background: linear-gradient(to right, var(--tint) var(--part), transparent var(--part)) no-repeat;
  background-size: 100% 78%; background-position: 0 50%; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 16px 14px; padding: 0;
  margin: 8px 0; list-style: none; }
.mistakes img { width: 96px; height: 96px; image-rendering: pixelated; border-radius: 4px; display: block; }
.mistakes p { font-size: .8125rem; line-height: 1.35; margin: 5px 0 0; } .mistakes span { color: var(--soft); }
pre { background: var(--ground); border: 1px solid var(--rule); border-radius: 6px; padding: 12px 14px;
  margin: 8px 0 12px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .875rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
details { margin: 12px 0 4px; } summary { cursor: pointer; color: var(--blue); }
footer { font-size: .8125rem; padding-bottom: 40px; }
@media (max-width: 640px) { header { padding-top: 26px; } main, header, footer, nav { padding-left: 12px;
  padding-right: 12px; } section { padding: 16px 14px 12px; } .head { grid-template-columns: minmax(0, 1fr); }
  .mistakes { grid-template-columns: repeat(3, 1fr); gap: 12px 8px; } .mistakes img { width: 100%; height: auto;
  aspect-ratio: 1; } table { font-size: .8125rem; } thead th { font-size: .75rem; } th, td { padding: 5px 4px; } }
@media print { nav, summary { display: none; } details::details-content { content-visibility: visible; }
  body { font-size: 10pt; } header { padding-top: 0; } section { border: 0; padding: 0 0 10px; margin: 0 0 8px; }
  .pair, .head { grid-template-columns: 1fr 1fr; } .pair.triple { grid-template-columns: 1fr 1fr 1fr; }
  .plot.square svg { min-width: 0; } .scroll { overflow: visible; background: none; }
  .scroll th:first-child { position: static; background: none; }
  table { font-size: 9pt; } th, td { padding: 3px 6px; } details th, details td { padding: 1px 6px; }
  .mistakes { grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 10px; }
  .mistakes img { width: 100%; height: auto; }
  figure, tr, pre, .head, .mistakes li { break-inside: avoid; } h2, h3, caption, thead { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

# The browser itself is told to fetch nothing, should a class be called `<img src=…>` and the escaping fail.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

VARIES = "data-varies"  # marks what differs between equal runs: times and places. tests/helpers/chaos.py leaves it out


def document(title: str, header: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """The page; `sections` are (id, heading or empty, HTML). Everything but `title` is HTML already."""
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in sections if heading)
    body = "\n".join(
        f'<section id="{name}">' + (f"<h2>{heading}</h2>" if heading else "") + f"\n{content}\n</section>"
        for name, heading, content in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<header>{header}</header>
<nav aria-label="Sections">{links}</nav>
<main>
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def facts(values: Iterable[tuple[str, str]]) -> str:
    """Names with their values, which are HTML."""
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values)
        + "</dl>"
    )


def varies(text: str) -> str:
    return f"<span {VARIES}>{escape(text)}</span>"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], best: int | None = None) -> str:
    """A table in a box that scrolls by itself. Cells are HTML; those that start with `<td` stand as they are.

    A column whose name starts with `|` holds text and stands on the left. `best` is the row that stands out.
    """
    left = [name.startswith("|") for name in columns]
    head = "".join(
        f'<th scope="col"{" class=text" * is_left}>{name.removeprefix("|")}</th>'
        for name, is_left in zip(columns, left, strict=True)
    )
    body = ""
    for number, row in enumerate(rows):
        cells = f'<th scope="row">{row[0]}</th>'
        for cell, is_left in zip(row[1:], left[1:], strict=True):
            cells += cell if cell.startswith("<td") else f"<td{' class=text' * is_left}>{cell}</td>"
        body += f"<tr{' class=best' * (number == best)}>{cells}</tr>\n"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def bar(share: float, text: str) -> str:
    """A cell with its number and, behind it, a bar for `share` (0 to 1)."""
    return f'<td class="bar" style="--part:{100 * share:.1f}%">{text}</td>'


def plot(svg: str, alternative: str, caption: str = "", square: bool = False) -> str:
    """A drawing with what it shows in words for those who do not see it. `caption` is HTML."""
    inner = f'<div role="img" aria-label="{escape(alternative)}">{svg}</div>'
    if square:
        inner = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(alternative)}">{inner}</div>'
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="plot{" square" * square}">{inner}{below}</figure>'


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
