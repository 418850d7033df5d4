/** A failed request to SNS, as observed. `explain` interprets it. */

export type Failure =
  /** There are no credentials, or they can't be sent. */
  | { readonly kind: 'credentials'; readonly code: string; readonly message: string }
  /** No answer: no connection, a timeout, or a connection that broke. */
  | { readonly kind: 'network'; readonly code: string; readonly message: string }
  /** The answer didn't come from SNS but from a proxy, a portal or another server. */
  | {
      readonly kind: 'foreign';
      readonly status: number;
      readonly code: string;
      /** Server and content type, from the answer's headers. */
      readonly server: string;
      readonly contentType: string;
    }
  /** SNS refused the whole request. */
  | {
      readonly kind: 'request';
      readonly status: number;
      readonly code: string;
      readonly message: string;
      /** How far this machine's clock is ahead of SNS's, in milliseconds; undefined if the answer had no time. */
      readonly skewMs?: number | undefined;
      /** The correction of the request's time, in milliseconds. */
      readonly clockOffset?: number;
    }
  /** SNS answered 200 and refused this entry. */
  | { readonly kind: 'entry'; readonly code: string; readonly message: string; readonly senderFault: boolean };

/** Circumstances that help to explain a failure. */
export interface Circumstances {
  readonly endpoint: URL;
  readonly region: string;
  readonly accountId: string;
  readonly credentials: 'static' | 'aws';
  /** The access key's id and the length of its secret, if the configuration has them. */
  readonly accessKeyId?: string | undefined;
  readonly secretLength?: number | undefined;
  /** The proxy in use, and the option or variable that names it. */
  readonly proxy?: { readonly origin: URL; readonly source: string } | undefined;
  /** The configuration file, for the commands in advice. */
  readonly configFile?: string | undefined;
  /** The environment has NODE_TLS_REJECT_UNAUTHORIZED=0, which this daemon ignores. */
  readonly tlsChecksOff?: boolean;
  /** The topic, and its KMS key if known. */
  readonly topicArn?: string | undefined;
  readonly kmsKey?: string | undefined;
}

/** The explanation of a failure, for people. */
export interface Meaning {
  readonly means: string;
  /** What to do. */
  readonly advice: string;
}
