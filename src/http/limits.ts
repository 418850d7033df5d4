/** Timeouts for clients of our servers, in milliseconds, by the names of Node.js's `http.createServer`. */
export interface RequestLimits {
  /** For the head of a request, and for the whole request. */
  readonly headersTimeout: number;
  readonly requestTimeout: number;
  /** How often the two are checked: every 30 s by default, which could turn 30 s into 60. */
  readonly connectionsCheckingInterval: number;
  /** For a TLS handshake. */
  readonly handshakeTimeout: number;
}

export const REQUEST_LIMITS: RequestLimits = {
  headersTimeout: 30_000,
  requestTimeout: 30_000,
  connectionsCheckingInterval: 1_000,
  handshakeTimeout: 30_000,
};
