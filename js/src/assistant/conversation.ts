/**
 * A conversation: kept in memory only, gone when the page goes. The model sees pairs of question and answer;
 * a question that was never answered stays on the screen but not in what the model reads, because chat templates
 * refuse two questions in a row.
 */
import type { AssistantClient, DeploymentModel } from "../frame/contracts.js";
import type { ChatMessage, Receipt } from "../protocol/types.js";
import { codeOf } from "./words.js";

/**
 * Small models wander at the temperatures that suit large ones: these are those of the example on SmolLM2's model card, and
 * the length ends what goes round in circles. The penalty is as light as ends most circles: it punishes the words of the
 * question too, and with 1.1 this model no longer says that 2 + 2 is 4.
 */
const SAMPLING = { temperature: 0.2, top_p: 0.9, repetition_penalty: 1.02, max_tokens: 512 } as const;

export interface Listener {
  delta(text: string): void;
  /** `stopped`: the visitor did; `cut`: the longest length was reached. */
  done(receipt: Receipt | null, how: "whole" | "stopped" | "cut"): void;
  failed(error: unknown): void;
}

export class Conversation {
  readonly #client: AssistantClient;
  readonly #model: DeploymentModel;
  #messages: ChatMessage[] = [];
  #running: { abort: AbortController; finish: () => void } | null = null;

  constructor(client: AssistantClient, model: DeploymentModel) {
    this.#client = client;
    this.#model = model;
  }

  get busy(): boolean {
    return this.#running !== null;
  }

  get empty(): boolean {
    return this.#messages.length === 0;
  }

  async ask(text: string, listener: Listener): Promise<void> {
    this.stop();
    const abort = new AbortController();
    const question: ChatMessage = { role: "user", content: text };
    let answer = "";
    let over = false;
    // Whatever ends first counts: the model, an error, or the visitor, who does not wait for the node to hear it.
    const end = (tell: () => void) => {
      if (over) {
        return;
      }
      over = true;
      if (this.#running?.abort === abort) {
        this.#running = null;
      }
      if (answer.trim() !== "") {
        this.#messages.push(question, { role: "assistant", content: answer });
      }
      tell();
    };
    this.#running = { abort, finish: () => end(() => listener.done(null, "stopped")) };
    try {
      const done = await this.#client.chat(
        { model: this.#model.id, messages: [...this.#messages, question], stream: true, ...SAMPLING },
        {
          signal: abort.signal,
          onDelta: (delta) => {
            if (!over) {
              answer += delta.text;
              listener.delta(delta.text);
            }
          },
        },
      );
      if (!over && done.text !== "") {
        answer += done.text;
        listener.delta(done.text);
      }
      const how = { stop: "whole", length: "cut", cancelled: "stopped", tool_calls: "whole" } as const;
      end(() => listener.done(done.receipt, how[done.finishReason]));
    } catch (error) {
      end(() => (codeOf(error) === "cancelled" ? listener.done(null, "stopped") : listener.failed(error)));
    }
  }

  /** At once: nothing that arrives later is shown. */
  stop(): void {
    const running = this.#running;
    this.#running = null;
    running?.abort.abort();
    running?.finish();
  }

  clear(): void {
    this.stop();
    this.#messages = [];
  }
}
