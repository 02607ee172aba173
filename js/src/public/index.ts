/** The public API of @kwaainet/sdk; nothing else is. */
export { KwaaiNetError } from "../protocol/errors.js";
export type {
  ChatCompletion,
  ChatCompletionChoice,
  ChatCompletionChunk,
  ChatCompletionChunkChoice,
  ChatCompletionMessage,
  CompletionExtra,
  CompletionFinishReason,
  CompletionUsage,
  Model,
  ModelList,
} from "../protocol/openai.js";
export type {
  ChatCompletionChunkToolCall,
  ChatCompletionTool,
  ChatCompletionToolChoice,
} from "../protocol/tools.js";
export type {
  Capabilities,
  ChatMessage,
  Content,
  ContentPart,
  ErrorCode,
  FunctionCall,
  HostReport,
  Missing,
  ModelStatus,
  NetworkState,
  NetworkStatus,
  PeerStatus,
  PolicyPack,
  PrivacyMode,
  Progress,
  Purpose,
  Receipt,
  ResourceLimits,
  Role,
  Service,
  Stage,
  Tier,
  ToolCall,
  Via,
} from "../protocol/types.js";
export type {
  Chat,
  ChatCompletionParams,
  ChatCompletionPlainParams,
  ChatCompletionStream,
  ChatCompletionStreamingParams,
  ChatCompletions,
  RequestOptions,
} from "./chat.js";
export type { ConsentStatus, KwaaiNetEvents } from "./events.js";
export type { Assistant, Consent, Models, Network } from "./kwaainet.js";
export { KwaaiNet } from "./kwaainet.js";
export type { KwaaiNetOptions } from "./options.js";
