/**
 * Every sentence that we draw. A language is one file that implements these interfaces, so that a missing
 * sentence does not compile. `{name}` is replaced; a test checks that each language uses the same names.
 * Panel and assistant are separate exports, so that neither bundle carries the words of the other.
 */
export interface PanelStrings {
  readonly title: string;
  readonly titleChange: string;
  readonly leadAssistant: string;
  readonly leadOwn: string;
  readonly download: string;
  readonly runs: string;
  readonly runsOwn: string;
  readonly readFrame: string;
  readonly readOwn: string;
  readonly readPage: string;
  readonly readSame: string;
  readonly caps: string;
  readonly capsNone: string;
  readonly cpu: string;
  readonly memory: string;
  readonly storage: string;
  readonly money: string;
  readonly free: string;
  readonly gpc: string;
  readonly now: string;
  readonly nowUntil: string;
  readonly accept: string;
  readonly reject: string;
  readonly choose: string;
  readonly chooseTitle: string;
  readonly chooseLead: string;
  readonly run: string;
  readonly runDetail: string;
  readonly keep: string;
  readonly keepDetail: string;
  readonly help: string;
  readonly helpDetail: string;
  readonly on: string;
  readonly off: string;
  readonly save: string;
  readonly back: string;
  readonly nothingOn: string;
  readonly later: string;
  readonly pill: string;
  readonly appeared: string;
  readonly untrusted: string;
  readonly covered: string;
  readonly small: string;
  readonly moved: string;
  readonly withdrawnTitle: string;
  readonly withdrawn: string;
  readonly close: string;
  readonly again: string;
}

/** Forms of one sentence for the plural categories of a language; `other` is always there. */
export type Plural = { readonly [rule in Exclude<Intl.LDMLPluralRule, "other">]?: string } & {
  readonly other: string;
};

export interface AssistantStrings {
  readonly name: string;
  readonly ask: string;
  readonly choices: string;
  readonly subtitle: string;
  readonly minimise: string;
  readonly newChat: string;
  readonly settings: string;
  readonly back: string;
  readonly hello: string;
  readonly helloFrame: string;
  readonly helloPage: string;
  readonly honest: string;
  readonly message: string;
  readonly placeholder: string;
  readonly send: string;
  readonly stop: string;
  readonly you: string;
  readonly conversation: string;
  readonly reading: string;
  readonly thinking: string;
  readonly waiting: string;
  readonly stopped: string;
  readonly cut: string;
  readonly copy: string;
  readonly copied: string;
  readonly receipt: string;
  readonly ranHere: string;
  readonly ranOther: string;
  readonly nothingLeft: string;
  readonly left: string;
  readonly tokens: Plural;
  readonly speed: string;
  readonly model: string;
  readonly prompt: string;
  readonly reused: string;
  readonly first: string;
  readonly seed: string;
  readonly downloading: string;
  readonly loading: string;
  readonly of: string;
  readonly perSecond: string;
  readonly remaining: string;
  readonly starting: string;
  readonly pause: string;
  readonly resume: string;
  readonly hide: string;
  readonly paused: string;
  readonly retry: string;
  readonly ready: string;
  readonly readyOwn: string;
  readonly readyKept: string;
  readonly browseOn: string;
  readonly tryAgain: string;
  readonly failed: string;
  readonly errors: {
    readonly network: string;
    readonly storageFull: string;
    readonly storageDenied: string;
    readonly memory: string;
    readonly context: string;
    readonly consent: string;
    readonly integrity: string;
    readonly unsupported: string;
    readonly busy: string;
    readonly interrupted: string;
    readonly other: string;
  };
  readonly agreed: string;
  readonly run: string;
  readonly keep: string;
  readonly help: string;
  readonly peers: string;
  readonly alone: string;
  readonly relayed: string;
  readonly exchanged: string;
  readonly unconnected: string;
  readonly since: string;
  readonly until: string;
  readonly site: string;
  readonly receiptId: string;
  readonly download: string;
  readonly change: string;
  readonly withdraw: string;
  readonly withdrawDetail: string;
  readonly withdrawing: string;
}

export interface Language {
  readonly tag: string;
  readonly direction: "ltr" | "rtl";
}
