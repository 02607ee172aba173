import { TOKENS } from "../ui/tokens.js";

export const STYLES = `${TOKENS}
.card.tall { flex: 1; height: 100%; }
.card.tall .scroll { flex: 1; }
.head.ruled { padding-bottom: 10px; border-bottom: 1px solid var(--line); }
.names { flex: 1; min-width: 0; }
.names h2 { line-height: 1.2; }
.names p { font-size: .7813em; line-height: 1.35; color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.head .tool + .tool { margin-inline-start: -6px; }
.body { padding: 8px 18px 16px; }
.log { min-height: 100%; padding: 16px 18px 8px; display: flex; flex-direction: column; gap: 16px; }
.log:focus-visible { outline-offset: -3px; border-radius: 6px; }
.hello { margin: auto; padding: 12px 8px; max-width: 19em; text-align: center; display: grid; justify-items: center; gap: 6px; }
.hello .mark { width: 44px; height: 44px; margin-bottom: 6px; }
.hello h3, .settings h3 { font-size: 1em; line-height: 1.3; font-weight: 650; margin: 0; }
.hello p { font-size: .875em; line-height: 1.45; color: var(--soft); }
.turn { max-width: 100%; min-width: 0; font-size: .9375em; line-height: 1.5; animation: rise .16s ease-out; }
.mine { align-self: flex-end; max-width: 85%; }
.said { background: var(--tint); color: var(--ink); padding: 8px 13px; border-radius: 16px; border-end-end-radius: 5px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.text { display: grid; gap: .65em; min-width: 0; }
.text p { white-space: pre-wrap; }
.text code { font: .9em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; background: var(--mist); border-radius: 5px; padding: .1em .3em; }
.text pre { background: var(--mist); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px; overflow-x: auto; min-width: 0; }
.text pre code { background: none; padding: 0; white-space: pre; }
.status { display: flex; align-items: center; gap: 10px; color: var(--soft); font-size: .9375em; }
.dots { display: inline-flex; gap: 4px; flex: none; }
.dots i { width: 6px; height: 6px; border-radius: 50%; background: var(--brand); animation: breathe 1.2s infinite ease-in-out; }
.dots i:nth-child(2) { animation-delay: .15s; } .dots i:nth-child(3) { animation-delay: .3s; }
@keyframes breathe { 0%, 70%, 100% { opacity: .3; } 35% { opacity: 1; } }
.small { font-size: .8438em; line-height: 1.42; color: var(--soft); margin-top: 6px; }
.receipt { margin-top: 8px; font-size: .7813em; line-height: 1.4; color: var(--soft); }
.receipt summary { display: grid; grid-template-columns: 16px 1fr; gap: 7px; cursor: pointer; list-style: none; border-radius: 6px;
  padding: 3px 0; min-height: 24px; align-items: start; }
.receipt summary::-webkit-details-marker { display: none; }
.receipt summary:hover { color: var(--ink); }
.receipt .icon { width: 16px; height: 16px; margin-top: .1em; color: var(--brand); }
.receipt.alert, .receipt.alert .icon { color: var(--alert); }
.peers { list-style: none; display: grid; gap: 6px; margin: 4px 0 10px; }
.peers small { display: block; color: var(--soft); }
dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 14px; }
dt { color: var(--soft); }
.fact { display: inline-block; margin-inline-end: .35em; }
.fact:not(:last-child)::after { content: " ·"; }
.receipt dl { margin: 5px 0 2px; padding-inline-start: 23px; }
.receipt dd { color: var(--ink); }
.tools { display: flex; gap: 6px; margin-top: 4px; }
.text-tool { display: inline-flex; align-items: center; gap: 6px; font-size: .7813em; line-height: 1.3; color: var(--soft);
  min-height: 28px; padding: 4px 8px; margin-inline-start: -8px; border-radius: 8px; }
.text-tool:hover { background: var(--mist); color: var(--ink); }
.text-tool .icon { width: 16px; height: 16px; }
.compose { flex: none; padding: 8px 12px 10px; border-top: 1px solid var(--line); }
.field { display: flex; align-items: flex-end; gap: 6px; border: 1.5px solid var(--edge); border-radius: 14px; padding: 4px;
  background: var(--paper); }
.field:focus-within { border-color: var(--brand); box-shadow: 0 0 0 1px var(--brand); }
textarea { flex: 1; min-width: 0; border: 0; outline: none; resize: none; background: none; color: inherit; font: inherit;
  font-size: .9375em; line-height: 1.45; padding: 7px 9px; margin: 0; max-height: 132px; }
textarea:focus-visible { outline: none; }
textarea::placeholder { color: var(--soft); opacity: 1; }
.send { width: 36px; height: 36px; border-radius: 10px; background: var(--brand); color: var(--on-brand); display: grid; place-items: center; flex: none; }
.send.stop { background: var(--ink); color: var(--paper); }
.send.stop .icon { fill: currentColor; }
.short .compose { position: sticky; bottom: 0; background: var(--paper); padding-bottom: 6px; }
.short .head { padding-top: 8px; }
.honest { font-size: .75em; line-height: 1.35; color: var(--soft); text-align: center; margin-top: 2px; }
.honest .link { min-height: 24px; padding: 0 6px; font: inherit; color: inherit; background: none; border: 0; border-radius: 4px;
  text-decoration: underline; text-underline-offset: 2px; cursor: pointer; }
.honest .link:hover { color: var(--ink); }
.strip { padding: 2px 6px 10px; }
.strip-title { font-size: .8125em; font-weight: 600; margin-bottom: 6px; }
.bar { height: 8px; border-radius: 4px; background: var(--line); overflow: hidden; }
.fill { height: 100%; border-radius: 4px; background: var(--brand); transition: inline-size .25s linear; min-inline-size: 4px; }
.bar.busy .fill { animation: glow 1.4s infinite ease-in-out; }
@keyframes glow { 50% { opacity: .45; } }
.line { display: flex; align-items: center; justify-content: space-between; gap: 12px; margin-top: 7px; }
.figures span { display: block; min-height: 1.4em; }
.figures { font-size: .8125em; line-height: 1.4; color: var(--soft); font-variant-numeric: tabular-nums; }
.line .choice { min-height: 32px; padding: 4px 12px; font-size: .8125em; flex: none; }
.note { display: grid; grid-template-columns: 18px 1fr; gap: 10px; margin-top: 9px; padding: 9px 11px; border-radius: 10px;
  background: var(--alert-tint); color: var(--alert); font-size: .8438em; line-height: 1.42; }
.note.calm { background: var(--mist); color: var(--soft); }
.note .icon { width: 18px; height: 18px; margin-top: .1em; }
.note small { display: block; margin-top: 3px; font-size: .9em; opacity: .9; overflow-wrap: anywhere; }
.facts { display: grid; gap: 5px; margin: 8px 0 14px; }
.facts li { display: grid; grid-template-columns: 18px 1fr; gap: 9px; font-size: .9063em; line-height: 1.4; }
.facts .icon { width: 18px; height: 18px; margin-top: .1em; color: var(--brand); }
.settings dl { font-size: .8438em; line-height: 1.45; gap: 6px 16px; margin-bottom: 16px; }
.way-out { margin: 16px 0 8px; }
.gauge { width: 28px; height: 28px; display: block; flex: none; transform: rotate(-90deg); }
.gauge circle { fill: none; stroke-width: 3; stroke: var(--line); }
.gauge .part { stroke: var(--brand); stroke-linecap: round; transition: stroke-dashoffset .25s linear; }
.pill .num { color: var(--soft); font-variant-numeric: tabular-nums; font-weight: 500; }
.pill.bare { padding: 0; width: 48px; justify-content: center; }
[dir=rtl] .pill.bare { padding: 0; }
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; } .fill { background: Highlight; forced-color-adjust: none; }
  .said, .note { border: 1px solid CanvasText; } .send { border: 1px solid ButtonText; }
  .dots i { background: CanvasText; forced-color-adjust: none; }
  .field:focus-within { outline: 2px solid Highlight; }
  .gauge .part { stroke: Highlight; }
}
`;
