/**
 * Decides whether a click counts. The page around us may be hostile: it can dispatch events (in page mode),
 * cover or shrink our frame, or slide it under a pointer that is about to press something else. So a click
 * counts only if a person made it, and the whole panel was visible and at rest long enough to be seen.
 *
 * IntersectionObserver v2 (`trackVisibility`) tells about covering, opacity and filters of every ancestor, our
 * frame's included, across origins. Only Chromium has it; elsewhere size and intersection are what can be known.
 */

export type Doubt = "untrusted" | "covered" | "small" | "moved";

/** How long the panel must have been visible and at rest. Firefox's own security dialogs wait as long or longer. */
export const REST_MS = 500;
/** How long a mouse must have been over the panel: longer than a person needs to notice what slid under it. */
export const HOVER_MS = 300;
/** Smaller than the smallest viewport that WCAG 1.4.10 asks to support (320 x 256), less room for scroll bars. */
const LEAST_WIDTH = 240;
const LEAST_HEIGHT = 160;
/** Share of the panel that must be inside what is painted. Below 1, because of fractional pixels. */
const LEAST_RATIO = 0.97;

interface VisibilityInit extends IntersectionObserverInit {
  readonly trackVisibility: boolean;
  readonly delay: number;
}

export class Gate {
  readonly #target: HTMLElement;
  readonly #host: HTMLElement;
  readonly #observer: IntersectionObserver;
  readonly #sizes: ResizeObserver;
  readonly #ends = new AbortController();
  /** Nothing is known until the observer has looked for the first time. */
  #looked = false;
  #visible = false;
  /** The latest moment at which something changed that a person would have to see first. */
  #disturbed = performance.now();
  #entered = Number.NEGATIVE_INFINITY;
  #focused = Number.NEGATIVE_INFINITY;
  #last: { screenX: number; screenY: number; clientX: number; clientY: number } | null = null;

  /** `target` must be seen; `host` fills the frame. */
  constructor(target: HTMLElement, host: HTMLElement) {
    this.#target = target;
    this.#host = host;
    const init: VisibilityInit = { threshold: [0, LEAST_RATIO, 1], trackVisibility: true, delay: 100 };
    this.#observer = new IntersectionObserver((entries) => this.#seen(entries), init);
    this.#observer.observe(target);
    this.#sizes = new ResizeObserver(() => this.disturb());
    this.#sizes.observe(host);
    const { signal } = this.#ends;
    const disturb = () => this.disturb();
    document.addEventListener("visibilitychange", disturb, { signal });
    globalThis.addEventListener("pageshow", disturb, { signal });
    globalThis.addEventListener(
      "focus",
      () => {
        this.#focused = performance.now();
      },
      { signal },
    );
    host.addEventListener("pointerenter", (event) => this.#enter(event), { signal });
    host.addEventListener("pointermove", (event) => this.#move(event), { signal, passive: true });
  }

  /** Something was moved or redrawn: the wait begins again. */
  disturb(): void {
    this.#disturbed = performance.now();
    this.#last = null;
  }

  /** Why this click does not count, or `null` if it does. */
  doubt(event: Event): Doubt | null {
    if (!event.isTrusted) {
      return "untrusted";
    }
    // When the visitor clicked, not when a busy page came to tell us.
    const now = event.timeStamp;
    if (this.#isSmall()) {
      return "small";
    }
    // takeRecords has what the observer saw but could not tell us yet.
    this.#seen(this.#observer.takeRecords());
    // First what passes by itself: until a moment ago there may have been nothing to see, for the observer either.
    if (!this.#looked || now - this.#disturbed < REST_MS) {
      return "moved";
    }
    if (!this.#visible || document.visibilityState !== "visible") {
      return "covered";
    }
    if (now - this.#arrival(event) < this.#patience(event)) {
      return "moved";
    }
    return null;
  }

  stop(): void {
    this.#ends.abort();
    this.#observer.disconnect();
    this.#sizes.disconnect();
  }

  #seen(entries: readonly IntersectionObserverEntry[]): void {
    const entry = entries.at(-1);
    if (entry === undefined) {
      return;
    }
    this.#looked = true;
    const { isVisible } = entry as IntersectionObserverEntry & { isVisible?: boolean };
    const visible = entry.intersectionRatio >= LEAST_RATIO && isVisible !== false;
    if (visible && !this.#visible) {
      this.disturb();
    }
    this.#visible = visible;
  }

  #isSmall(): boolean {
    const frame = this.#host.getBoundingClientRect();
    const card = this.#target.getBoundingClientRect();
    const least = Math.min(LEAST_HEIGHT, this.#target.scrollHeight);
    return frame.width < LEAST_WIDTH || card.width < LEAST_WIDTH - 32 || card.height < least;
  }

  #enter(event: PointerEvent): void {
    if (event.isTrusted && event.pointerType === "mouse") {
      this.#entered = event.timeStamp;
      this.#last = null;
    }
  }

  /**
   * A frame cannot ask where it is on the screen, but the two positions of a mouse event betray a move: the
   * pointer rests on the screen and yet wanders over us.
   */
  #move(event: PointerEvent): void {
    if (!event.isTrusted || event.pointerType !== "mouse") {
      return;
    }
    const { screenX, screenY, clientX, clientY } = event;
    const last = this.#last;
    this.#last = { screenX, screenY, clientX, clientY };
    if (last === null) {
      return;
    }
    const rests = Math.abs(screenX - last.screenX) <= 1 && Math.abs(screenY - last.screenY) <= 1;
    const wanders = Math.abs(clientX - last.clientX) > 3 || Math.abs(clientY - last.clientY) > 3;
    if (rests && wanders) {
      this.#disturbed = performance.now();
    }
  }

  /** Since when what made this click could have been aimed at us. Touch has no hovering to measure. */
  #arrival(event: Event): number {
    if (isKeyboard(event)) {
      return document.hasFocus() ? this.#focused : Number.NEGATIVE_INFINITY;
    }
    return event instanceof PointerEvent && event.pointerType === "mouse"
      ? this.#entered
      : Number.NEGATIVE_INFINITY;
  }

  #patience(event: Event): number {
    return isKeyboard(event) ? REST_MS : HOVER_MS;
  }
}

/** Keys and assistive technology click without a pointer: `detail` is 0. */
function isKeyboard(event: Event): boolean {
  return event instanceof MouseEvent && event.detail === 0;
}
