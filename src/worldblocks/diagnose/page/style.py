"""The stylesheet of the page: light and dark, for narrow and wide screens."""

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1d2129;--soft:#5d6675;--line:#e3e6eb;
--green:#1a8754;--amber:#b26a00;--red:#c9302c;--grey:#7b8494;--s0:#2a6fbb;--s1:#d9692b;--s2:#3a9d6e;
--s3:#8d59b8;--s4:#8a7a2e;--s5:#5d6675}
@media(prefers-color-scheme:dark){:root{--bg:#13161b;--card:#1b1f26;--ink:#e6e9ee;--soft:#9aa4b2;
--line:#2d333d;--green:#45c98a;--amber:#f0ad4e;--red:#ff6f69;--grey:#8b95a5;--s0:#6db1f5;--s1:#ff9a5c;
--s2:#5fd3a0;--s3:#c597ee;--s4:#d8c663;--s5:#9aa4b2}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1000px;margin:0 auto;padding:28px 16px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0;display:flex;align-items:center;gap:.55em}
p{margin:.4em 0}.soft{color:var(--soft)}
.facts{display:flex;flex-wrap:wrap;gap:4px 22px;margin:12px 0 22px;padding:0;list-style:none;
color:var(--soft);font-size:.92rem}.facts b{color:var(--ink);font-weight:600}
.verdict{font-size:1.08rem;margin:0 0 14px}
.green{--l:var(--green)}.amber{--l:var(--amber)}.red{--l:var(--red)}.grey{--l:var(--grey)}
.lamp{flex:none;width:.8em;height:.8em;display:inline-block;background:var(--l)}
.lamp.green{border-radius:50%}
.lamp.grey{background:none;border:2px solid var(--l);border-radius:50%}
.lamp.amber{clip-path:polygon(50% 4%,100% 96%,0 96%)}
nav{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:8px;margin:0 0 26px}
nav a{display:flex;align-items:center;gap:.6em;padding:10px 12px;border-radius:10px;color:inherit;
background:var(--card);border:1px solid var(--line);text-decoration:none;font-size:.94rem}
nav a:hover{border-color:var(--l)}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:20px 20px 14px;margin:0 0 18px;border-top:3px solid var(--l);scroll-margin-top:12px}
.question{color:var(--soft);margin:4px 0 12px}
.finding{display:grid;grid-template-columns:1.3em minmax(0,18em) minmax(0,1fr);column-gap:.5em;
padding:9px 0;border-top:1px solid var(--line);align-items:baseline}
.finding .lamp{align-self:baseline}.finding b{font-weight:600}
.number,.rule{display:block;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.rule{color:var(--soft);font-size:.86rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));
gap:14px 22px;margin:14px 0 6px}
figure{margin:0;min-width:0}figure.wide{grid-column:1/-1}
figure .scroll{overflow-x:auto}
figcaption{color:var(--soft);font-size:.84rem;line-height:1.4;margin-top:2px}
svg{display:block;width:100%;height:auto;max-width:470px}
figure.wide svg.pixels{min-width:min(600px,var(--least,600px))}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--soft);
paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
svg .mid{text-anchor:middle}svg .end{text-anchor:end}
svg .label{font-size:11.5px;fill:var(--ink)}
svg image{image-rendering:pixelated}
.grid{stroke:var(--line);stroke-width:1}
svg .rule{stroke:var(--soft);stroke-width:1}svg .dash,.line.dash{stroke-dasharray:5 4}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.dot{fill:var(--c)}.dot.faint{opacity:.35}.bar{fill:var(--c);opacity:.85}
.shade{fill:var(--soft);opacity:.1}
.c0{--c:var(--s0)}.c1{--c:var(--s1)}.c2{--c:var(--s2)}.c3{--c:var(--s3)}.c4{--c:var(--s4)}
.c5{--c:var(--s5)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.8rem;color:var(--soft);padding-left:11%}
.legend span{display:inline-flex;align-items:center;gap:.45em}
.legend .stroke{width:18px;border-top:2.5px solid var(--c,var(--soft))}
.legend .stroke.dash{border-top-style:dashed}
.legend .spot{width:9px;height:9px;border-radius:50%;background:var(--c)}.legend .faint{opacity:.5}
table{border-collapse:separate;border-spacing:3px;font-size:.88rem;font-variant-numeric:tabular-nums}
th{font-weight:600;text-align:left;padding:3px 8px 3px 0;white-space:nowrap}
tr:first-child th{color:var(--soft);font-weight:500;text-align:right;padding-right:8px}
td{text-align:right;padding:4px 8px;border-radius:5px;white-space:nowrap}
td.heat{background:color-mix(in srgb,var(--s0) var(--share,0%),transparent)}
td.leak{background:var(--red);color:var(--card);font-weight:700}
td.missing{background:color-mix(in srgb,var(--amber) 40%,transparent)}
tr.foot td,tr.foot th{color:var(--soft);font-weight:400}
details{margin:10px 0 6px;border-top:1px solid var(--line);padding-top:8px}
summary{cursor:pointer;color:var(--soft);font-size:.94rem}
h3{font-size:.96rem;margin:12px 0 2px}h3 em{font-style:normal;color:var(--l);font-weight:600}
ol{margin:4px 0 8px;padding-left:1.4em}li{margin:3px 0}li span{color:var(--soft)}
footer{color:var(--soft);font-size:.85rem;margin-top:24px}
code{font-size:.92em;overflow-wrap:anywhere}
@media(max-width:620px){main{padding:20px 12px 48px}section{padding:16px 14px 10px}
.finding{grid-template-columns:1.3em minmax(0,1fr)}.finding div{grid-column:2}
nav{grid-template-columns:repeat(2,minmax(0,1fr))}nav a{padding:9px 10px;font-size:.88rem}
figure .scroll table{font-size:.8rem}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
