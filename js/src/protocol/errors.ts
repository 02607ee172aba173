import type { ErrorBody, ErrorCode } from "./types.js";

/** What every call of KwaaiNet rejects with. `code` is for programs, `message` says what to do. */
export class KwaaiNetError extends Error {
  readonly code: ErrorCode;
  /** The same call may succeed later without being changed. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options?: { retryable?: boolean; cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "KwaaiNetError";
    this.code = code;
    this.retryable = options?.retryable ?? false;
  }
}

export function errorFromBody(body: ErrorBody): KwaaiNetError {
  return new KwaaiNetError(body.code, body.message, { retryable: body.retryable });
}

export function errorToBody(error: unknown): ErrorBody {
  if (error instanceof KwaaiNetError) {
    return { code: error.code, message: error.message, retryable: error.retryable };
  }
  return { code: "internal", message: messageOf(error), retryable: false };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function cancelled(signal?: AbortSignal): KwaaiNetError {
  return new KwaaiNetError("cancelled", "The call was aborted by its AbortSignal.", {
    cause: signal?.reason,
  });
}
