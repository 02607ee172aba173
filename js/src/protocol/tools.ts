/** Tools between OpenAI's shape and the node's own. */
import type { ToolCall } from "./types.js";

/** A function that the model may ask the page to call. */
export interface ChatCompletionTool {
  readonly type: "function";
  readonly function: {
    /** Letters, digits, `_` and `-`; up to 64. */
    readonly name: string;
    /** What it does and when to call it, for the model. */
    readonly description?: string | undefined;
    /** JSON schema of its arguments, of type `object`; left out, it takes none. Arguments are always valid under it. */
    readonly parameters?: unknown;
  };
}

/** Whether the model calls: as it likes, never, at least once, or this function. */
export type ChatCompletionToolChoice =
  | "auto"
  | "none"
  | "required"
  | { readonly type: "function"; readonly function: { readonly name: string } };

/** A piece of a call: first who is called, then with what. */
export interface ChatCompletionChunkToolCall {
  index: number;
  id?: string;
  type?: "function";
  function: { name?: string; arguments: string };
}

/**
 * With the schemas as text: objects on their way to the node may lose the order of their members, which counts. What is not in
 * OpenAI's shape goes on as it is, and the node says what is wrong with it.
 */
export function toTools(tools: unknown): unknown {
  if (!Array.isArray(tools)) return tools;
  return tools.map((tool: unknown) => {
    const { type, function: offered } = Object(tool);
    if (type !== "function" || offered === undefined) return tool;
    const { name, description, parameters } = Object(offered);
    // Null means unset, as with OpenAI.
    const schema = parameters ?? undefined;
    return { name, description: description ?? undefined, parameters: JSON.stringify(schema) };
  });
}

export function toToolChoice(choice: unknown): unknown {
  if (typeof choice === "string") return { type: choice };
  const { type, function: named } = Object(choice);
  return type === "function" ? { type, name: Object(named).name } : choice;
}

/** Like OpenAI's pieces of calls: for each, its name and then its arguments. */
export function toCallDeltas(calls: readonly ToolCall[]): ChatCompletionChunkToolCall[] {
  return calls.flatMap(({ id, type, function: called }, index) => [
    { index, id, type, function: { name: called.name, arguments: "" } },
    { index, function: { arguments: called.arguments } },
  ]);
}
