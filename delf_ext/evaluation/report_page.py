"""Define the HTML page of a report: style, template and definitions of the metrics."""

from __future__ import annotations

from string import Template

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5b6675;
  --line: #dfe3e8;
  --empty: #d4d8de; --good: #15803d; --bad: #c62828; --bar: #4a6fa5; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1d2128; --ink: #e7eaee;
  --soft: #9ba6b4; --line: #323944;
  --empty: #3a414c; --good: #3fbf6f; --bad: #ff6b60; --bar: #7ea3d8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { margin: 0 0 12px; font-size: 28px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 4px; font-size: 20px; }
h3 { margin: 0 0 4px; font-size: 13px; font-weight: 600; overflow-wrap: anywhere; }
h3 span, .note, footer { color: var(--soft); font-weight: 400; }
.note { margin: 0 0 12px; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 0; }
.facts dt { color: var(--soft); font-size: 12px; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.panel, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px; margin: 0 0 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 9em; }
thead th, td:nth-child(3), td:nth-child(5), td:nth-child(10) { color: var(--soft);
  font-weight: 400; font-size: 13px; }
td:nth-child(2) { font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 12px; }
.charts .panel { flex: 1 1 380px; }
svg { display: block; width: 100%; height: auto; max-width: 640px; }
svg text { fill: var(--ink); font-size: 13px; } svg .tick { fill: var(--soft); font-size: 11px; }
svg .bar { fill: var(--bar); } svg .grid { stroke: var(--line); }
svg .whisker { stroke: var(--ink); stroke-width: 1.6; }
.card { display: flex; gap: 20px; }
.asked { flex: 0 0 120px; font-size: 13px; overflow-wrap: anywhere; }
.asked p { margin: 6px 0 0; line-height: 1.35; color: var(--soft); }
.asked b { color: var(--ink); }
.asked img, .asked .unreadable { width: 120px; height: 120px; border-radius: 8px; }
.answers { flex: 1; min-width: 0; display: grid; gap: 12px; }
.strip { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 8px; }
.tile { position: relative; border: 3px solid; border-radius: 8px; overflow: hidden; width: 118px;
  height: 118px; }
.tile.hit { border-color: var(--good); } .tile.miss { border-color: var(--bad); }
img { width: 112px; height: 112px; object-fit: contain; display: block; background: var(--page); }
.unreadable { width: 112px; height: 112px; display: grid; place-items: center; padding: 6px;
  text-align: center; font-size: 11px;
  line-height: 1.25; background: var(--empty); overflow: hidden; overflow-wrap: anywhere; }
.mark, .rank {
  position: absolute; top: 0; min-width: 18px; height: 18px; font-size: 12px; line-height: 18px;
  text-align: center; }
.mark { right: 0; color: var(--card); font-weight: 700; border-bottom-left-radius: 6px; }
.hit .mark { background: var(--good); } .miss .mark { background: var(--bad); }
.rank { left: 0; background: var(--card); color: var(--ink); border-bottom-right-radius: 6px;
  padding: 0 3px; }
.inliers { position: absolute; right: 0; bottom: 0; min-width: 22px; padding: 0 5px;
  font-size: 11px; line-height: 18px;
  text-align: center; border-top-left-radius: 6px; background: var(--bar); color: var(--card);
  font-weight: 700; }
.inliers.rejected { background: var(--card); color: var(--soft); font-weight: 400; }
.match { width: auto; height: auto; max-width: 100%; border-radius: 8px; }
footer { border-top: 1px solid var(--line); margin-top: 48px; font-size: 13px; }
footer dt { color: var(--ink); font-weight: 600; }
footer dd { margin: 0 0 6px; }
@media (max-width: 640px) { .card { flex-direction: column; } main { padding: 20px 12px 40px; } }
@media print { .card, .panel { break-inside: avoid; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="mandoo">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body><main>
<header><h1>$title</h1><dl class="facts">$facts</dl></header>
<section><h2>Comparison</h2><p class="note">$notes</p>
$remarks<div class="panel scroll">$table</div>
<div class="charts">$charts</div></section>
$pictures
<footer><h2>What the numbers mean</h2><dl>$definitions</dl></footer>
</main></body>
</html>
""")

DEFINITIONS = {
    "Average precision (AP), mAP": "Per query, the sum over the relevant images of the precision at"
    " their rank, divided by the number of relevant images in the gallery. A relevant image that is"
    " not ranked adds nothing. mAP is the mean over queries.",
    "R@k": "Share of queries with at least one relevant image among the first k (the challenge's"
    " Recall@k).",
    "Last rank": "Mean rank, counted from 1, of a query's last relevant image; if the ranking ends"
    " before it, the size of the gallery. Lower is better.",
    "95 %": "Percentile bootstrap over queries, 2,000 draws; exact if all have one score."
    " “mAP - first” is the difference to the first line on the same draws, p its two-sided"
    " bootstrap p-value.",
    "Not scored": "Queries without a relevant image in the gallery are left out and counted. Junk,"
    " such as the query's own image in the gallery (under any name, also as a copy), is removed"
    " from a ranking before anything is counted or shown.",
    "Frames": "✓ in a green frame: relevant. ✗ in a red frame: not relevant. Point at a picture for"
    " id, label and score.",
}

INLIERS_DEFINITION = {
    "Inliers": "The number in a picture's lower corner: how many local features of the query match"
    " this image under one transform. On a coloured background: enough to accept the image and"
    " move it to the front. On a plain background: too few."
}
