/** The messages between page and node. Written by the wasm build from sdk-core/types; never by hand. */
export type * from "./generated/kwaainet.js";
