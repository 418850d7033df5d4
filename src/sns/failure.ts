/** How a request to SNS failed: what was observed, and nothing of what it means, which `explain` says. */

export type Failure =
  /** There is nothing to sign with, or what there is can't be sent. */
  | { readonly kind: 'credentials'; readonly code: string; readonly message: string }
  /** No answer: no connection, a timeout, or a connection that broke. */
  | { readonly kind: 'network'; readonly code: string; readonly message: string }
  /** An answer that is not one of SNS's: a proxy's, a portal's or another server's. */
  | {
      readonly kind: 'foreign';
      readonly status: number;
      readonly code: string;
      /** Who answered, and with what, as far as the headers say. */
      readonly server: string;
      readonly contentType: string;
    }
  /** SNS refused the whole request. */
  | {
      readonly kind: 'request';
      readonly status: number;
      readonly code: string;
      readonly message: string;
      /** How far this machine's clock is ahead of SNS's, in milliseconds; undefined where the answer had no time. */
      readonly skewMs?: number | undefined;
      /** What the request's time was corrected by, in milliseconds. */
      readonly clockOffset?: number;
    }
  /** SNS answered 200 and refused this entry. */
  | { readonly kind: 'entry'; readonly code: string; readonly message: string; readonly senderFault: boolean };

/** What is known beside a failure, and shapes what it means and what to do about it. */
export interface Circumstances {
  readonly endpoint: URL;
  readonly region: string;
  readonly accountId: string;
  readonly credentials: 'static' | 'aws';
  /** The access key's id and how many characters its secret has, where the configuration has them. */
  readonly accessKeyId?: string | undefined;
  readonly secretLength?: number | undefined;
  /** The proxy that it goes through, and who names that. */
  readonly proxy?: { readonly origin: URL; readonly source: string } | undefined;
  /** The configuration file, for commands to copy. */
  readonly configFile?: string | undefined;
  /** NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment, which this daemon does not follow. */
  readonly tlsChecksOff?: boolean;
  /** The topic that it was about, and the KMS key that the topic is encrypted with, where that is known. */
  readonly topicArn?: string | undefined;
  readonly kmsKey?: string | undefined;
}

/** What somebody reads of a failure. */
export interface Meaning {
  readonly means: string;
  /** What to do about it. */
  readonly advice: string;
}
