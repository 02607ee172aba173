/**
 * Colours, type and the parts that panel and assistant share. Contrast of every pair that carries text is
 * at least 4.5 : 1, of every boundary of a control at least 3 : 1 (WCAG 2.2, 1.4.3 and 1.4.11).
 * Container queries stand in for media queries: the width that counts is that of our frame.
 */
export const TOKENS = `
:host {
  --paper: #ffffff; --mist: #f4f6f4; --ink: #17211d; --soft: #52605a; --line: #dde3df; --edge: #7c8a83;
  --brand: #0a6a55; --on-brand: #ffffff; --tint: #e4f1ec; --alert: #9a3412; --alert-tint: #fdf0e7;
  --focus: #0b57d0; --shadow: 0 0 0 1px rgb(23 33 29 / .07), 0 2px 5px rgb(23 33 29 / .07), 0 10px 14px -4px rgb(23 33 29 / .16);
  all: initial; position: absolute; inset: 0; display: block; pointer-events: none;
  font: medium/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans Arabic", sans-serif;
  color: var(--ink); -webkit-text-size-adjust: 100%; text-size-adjust: 100%;
}
@media (prefers-color-scheme: dark) {
  :host {
    --paper: #171c1a; --mist: #212826; --ink: #edf2ef; --soft: #a9b6af; --line: #303936; --edge: #7d8b84;
    --brand: #63d2b0; --on-brand: #06231b; --tint: #1d3a31; --alert: #ffb68a; --alert-tint: #3a2417;
    --focus: #a8c7fa; --shadow: 0 0 0 1px rgb(255 255 255 / .11), 0 2px 5px rgb(0 0 0 / .4), 0 10px 14px -4px rgb(0 0 0 / .5);
  }
}
*, *::before, *::after { box-sizing: border-box; }
[hidden] { display: none !important; }
.stage { position: absolute; right: 0; bottom: 0; padding: var(--margin, 16px); display: flex; flex-direction: column;
  container-type: inline-size; }
.card { pointer-events: auto; display: flex; flex-direction: column; min-height: 0; background: var(--paper);
  border-radius: 16px; box-shadow: var(--shadow); overflow: hidden; outline: none; }
.rise { animation: rise .2s ease-out; }
@keyframes rise { from { transform: translateY(8px); opacity: 0; } }
h2, h3, p, ul, dl, dd, pre { margin: 0; padding: 0; }
ul { list-style: none; }
h2 { font-size: 1.0625em; line-height: 1.3; font-weight: 650; letter-spacing: -.01em; }
h2:focus { outline: none; }
p, li, dd, dt { overflow-wrap: anywhere; }
b { font-weight: 600; }
button { font: inherit; color: inherit; background: none; border: 0; margin: 0; padding: 0; cursor: pointer; }
button:disabled { cursor: default; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.head { display: flex; align-items: center; gap: 10px; padding: 14px 10px 0 18px; flex: none; }
[dir=rtl] .head { padding: 14px 18px 0 10px; }
.head h2 { flex: 1; min-width: 0; }
.tool { width: 36px; height: 36px; border-radius: 10px; display: grid; place-items: center; color: var(--soft); flex: none; }
.tool:hover { background: var(--mist); color: var(--ink); }
.tool:disabled { opacity: .45; background: none; }
.icon { width: 20px; height: 20px; fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linecap: round;
  stroke-linejoin: round; display: block; flex: none; }
[dir=rtl] .flip .icon { transform: scaleX(-1); }
.mark { width: 28px; height: 28px; fill: none; flex: none; display: block; }
.ring { stroke: var(--brand); stroke-width: 2.2; stroke-linecap: round; }
.seed { fill: var(--brand); }
.scroll { overflow: auto; min-height: 0; overscroll-behavior: contain; }
.scroll:focus-visible { outline-offset: -2px; border-radius: 8px; }
.short .card { display: block; overflow: auto; overscroll-behavior: contain; }
.short .scroll { overflow: visible; }
.short .foot { position: sticky; bottom: 0; background: var(--paper); padding-bottom: 10px; }
.choices { display: grid; grid-template-columns: repeat(auto-fit, minmax(0, 1fr)); gap: 8px; flex: none; }
.choice { min-height: 44px; padding: 8px 6px; border-radius: 10px; border: 1.5px solid var(--edge); background: var(--mist);
  color: var(--ink); font-weight: 600; font-size: .9375em; line-height: 1.25; text-align: center; overflow-wrap: anywhere;
  transition: background-color .12s, border-color .12s; }
.choice:hover { border-color: var(--ink); background: var(--line); }
.choice:active { background: var(--edge); }
/* At 320 px three German buttons still fit side by side; below that they stand on top of each other. */
@container (max-width: 340px) {
  .stage .foot { padding-inline: 10px; } .choices { gap: 6px; } .choice { font-size: .8438em; padding-inline: 1px; }
}
@container (max-width: 270px) { .choices { grid-template-columns: 1fr; } }
.pill { pointer-events: auto; align-self: flex-end; display: flex; align-items: center; gap: 10px; min-height: 48px;
  padding: 6px 18px 6px 10px; border-radius: 24px; background: var(--paper); box-shadow: var(--shadow); font-weight: 600;
  font-size: .9375em; line-height: 1.3; white-space: nowrap; width: max-content; }
[dir=rtl] .pill { align-self: flex-start; padding: 6px 10px 6px 18px; }
.pill:hover { background: var(--mist); }
.hide { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { animation: none !important; transition: none !important; scroll-behavior: auto !important; }
}
@media (forced-colors: active) {
  .card, .pill { border: 1px solid CanvasText; }
  .tool, .choice { border: 1px solid ButtonText; }
  .ring { stroke: CanvasText; } .seed { fill: CanvasText; }
}
`;
