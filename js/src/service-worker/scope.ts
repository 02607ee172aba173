/** The part of ServiceWorkerGlobalScope that is used; the DOM library types only windows. */
export interface ExtendableEventLike extends Event {
  waitUntil(promise: Promise<unknown>): void;
}

export interface FetchEventLike extends ExtendableEventLike {
  readonly request: Request;
  readonly clientId: string;
  respondWith(response: Response | Promise<Response>): void;
}

export interface MessageEventLike extends ExtendableEventLike {
  readonly data: unknown;
}

export interface ClientLike {
  postMessage(message: unknown): void;
}

export interface ServiceWorkerScope {
  readonly registration: { readonly scope: string };
  readonly location: { readonly search: string };
  readonly clients: { claim(): Promise<void>; get(id: string): Promise<ClientLike | undefined> };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEventLike) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEventLike) => void): void;
  addEventListener(type: "message", listener: (event: MessageEventLike) => void): void;
}
