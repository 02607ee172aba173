import { TOKENS } from "../ui/tokens.js";

export const STYLES = `${TOKENS}
.body { padding: 8px 18px 2px; }
.lead { font-size: .9375em; line-height: 1.45; }
.facts { display: grid; gap: 7px; margin: 12px 0 6px; }
.facts li { display: grid; grid-template-columns: 18px 1fr; gap: 10px; font-size: .8438em; line-height: 1.42; color: var(--soft); }
.facts .icon { width: 18px; height: 18px; margin-top: .1em; color: var(--brand); }
.small { font-size: .8438em; line-height: 1.42; color: var(--soft); margin: 6px 0; }
.foot { flex: none; padding: 10px 18px 16px; }
.note { display: grid; grid-template-columns: 18px 1fr; gap: 10px; margin: 0 0 10px; padding: 9px 11px; border-radius: 10px;
  background: var(--alert-tint); color: var(--alert); font-size: .8438em; line-height: 1.42; }
.note .icon { width: 18px; height: 18px; margin-top: .1em; }
.switches { display: grid; gap: 8px; margin: 12px 0 8px; }
.switch { display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; align-items: center; padding: 11px 13px;
  border: 1px solid var(--line); border-radius: 12px; cursor: pointer; }
.switch b { font-size: .9375em; line-height: 1.35; }
.switch small { grid-column: 1; font-size: .8125em; line-height: 1.4; color: var(--soft); }
.switch .state { grid-column: 2; grid-row: 1 / span 2; display: grid; justify-items: center; gap: 2px; font-size: .75em;
  line-height: 1.3; color: var(--soft); min-width: 3.6em; text-align: center; }
.switch:has(:disabled) { cursor: default; }
.switch:has(:disabled) b { color: var(--soft); }
input { appearance: none; width: 40px; height: 24px; margin: 0; border-radius: 12px; border: 1.5px solid var(--edge);
  background: var(--mist); position: relative; cursor: inherit; transition: background-color .12s; }
input::after { content: ""; position: absolute; top: 3px; inset-inline-start: 3px; width: 15px; height: 15px;
  border-radius: 50%; background: var(--edge); transition: inset-inline-start .12s; }
input:checked { background: var(--brand); border-color: var(--brand); }
input:checked::after { inset-inline-start: 19px; background: var(--on-brand); }
input:disabled { opacity: .5; }
@media (forced-colors: active) {
  .switch, .note { border: 1px solid CanvasText; }
  input::after { background: ButtonText; forced-color-adjust: none; }
  input:checked { background: Highlight; forced-color-adjust: none; }
  input:checked::after { background: HighlightText; }
}
`;
