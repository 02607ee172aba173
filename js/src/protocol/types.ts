/** The messages between page and node. Written by the wasm build from sdk-core/types; never by hand. */
import type { Message } from "./generated/kwaainet.js";

export type * from "./generated/kwaainet.js";

/** Serde flattens the message into its envelope; TypeScript says that with an intersection, not with `extends`. */
export type Envelope = Message & { v: number; id: number };
