/**
 * Where an account's AWS credentials come from.
 *
 * Maintained invariants of the provider chain:
 * - One fetch is under way at a time, and all who ask meanwhile share it.
 * - The chain is asked at most once in FETCH_EVERY_MS while it has given credentials that can be used: those that are about
 *   to expire, or that expire at once, must not start a process for each request.
 */
import type { SnsOptions } from '../config/options.ts';
import { credentialsCause } from './credentials-cause.ts';
import { createSdkHttp, type SdkHttp } from './sdk-http.ts';
import type { AwsCredentials } from './signature.ts';

export interface CredentialSource {
  /** Credentials that have not expired. @throws when there are none to be had, with the cause and without secrets */
  get(): AwsCredentials | Promise<AwsCredentials>;
  /** AWS does not take these any more: the next `get` brings new ones, if there are. */
  expired(credentials: AwsCredentials): void;
  /** Ends what it keeps open. */
  close?(): void;
}

/**
 * Static keys, or AWS's own provider chain: environment, shared profile (assumed roles, SSO, processes), web identity,
 * container and instance metadata. The chain renews what has less than five minutes left.
 * https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
 * @param fetchEveryMs how often the chain is asked at most
 */
export function credentialsOf(options: SnsOptions, fetchEveryMs = FETCH_EVERY_MS): CredentialSource {
  const { credentials, access_key_id: accessKeyId, secret_access_key: secretAccessKey } = options;
  if (credentials === 'static' && accessKeyId !== undefined && secretAccessKey !== undefined) {
    const keys = { accessKeyId, secretAccessKey };
    return { get: () => keys, expired: () => {} };
  }
  return new ProviderChain(options, fetchEveryMs);
}

/** Credentials with less left than this are renewed, in milliseconds. */
const RENEW_BEFORE_MS = 5 * 60_000;
/** How often the chain is asked at most while it has given some, and after it had none, in milliseconds. */
const FETCH_EVERY_MS = 5_000;
const FAILED_EVERY_MS = 1_000;

interface Given extends AwsCredentials {
  readonly expiration?: Date | undefined;
}

type Provider = (properties: Readonly<Record<string, unknown>>) => Promise<Given>;

class ProviderChain implements CredentialSource {
  readonly #region: string;
  readonly #fetchEveryMs: number;
  readonly #http: SdkHttp;
  #chain: Promise<Provider> | undefined;
  /** What the chain's links said since the last fetch began. */
  #said: string[] = [];
  #current: Given | undefined;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  /** AWS has refused the current ones. */
  #refused = false;
  #refusedAt = Number.NEGATIVE_INFINITY;
  #pending: Promise<Given> | undefined;
  /** Why the last fetch brought none. */
  #failure: Error | undefined;

  constructor({ region, proxy }: Pick<SnsOptions, 'region' | 'proxy'>, fetchEveryMs: number) {
    this.#fetchEveryMs = fetchEveryMs;
    this.#region = region;
    this.#http = createSdkHttp(proxy);
  }

  get(): AwsCredentials | Promise<AwsCredentials> {
    const current = this.#current;
    const since = performance.now() - this.#fetchedAt;
    const left = (current?.expiration?.getTime() ?? Number.POSITIVE_INFINITY) - Date.now();
    if (this.#failure && (!current || left <= 0))
      return since < Math.min(FAILED_EVERY_MS, this.#fetchEveryMs) ? Promise.reject(this.#failure) : this.#fetch();
    if (!current || this.#refused) return this.#fetch();
    // Whatever is left of them when they have just come: a clock that is wrong has them expire at once.
    if (left > RENEW_BEFORE_MS || since < this.#fetchEveryMs) return current;
    if (left <= 0) return this.#fetch();
    // They can be used yet. A failure now is met again, and told, when they can't.
    this.#fetch().catch(() => {});
    return current;
  }

  expired(credentials: AwsCredentials): void {
    // Late answers to requests that were signed with older ones say nothing of these.
    if (credentials.accessKeyId !== this.#current?.accessKeyId) return;
    if (performance.now() - this.#refusedAt < this.#fetchEveryMs) return;
    this.#refusedAt = performance.now();
    this.#refused = true;
  }

  close(): void {
    this.#http.destroy();
  }

  #fetch(): Promise<Given> {
    this.#pending ??= this.#ask().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async #ask(): Promise<Given> {
    this.#chain ??= this.#load();
    this.#said = [];
    this.#fetchedAt = performance.now();
    this.#refused = false;
    try {
      const provider = await this.#chain;
      const properties = { region: this.#region, requestHandler: this.#http };
      // Always refreshed: what is remembered is remembered here.
      this.#current = await provider({ forceRefresh: true, callerClientConfig: properties });
      this.#failure = undefined;
      return this.#current;
    } catch (error) {
      this.#failure = new Error(await credentialsCause(error, this.#said, process.env), { cause: error });
      throw this.#failure;
    }
  }

  /** Loaded when it is asked for: it costs a daemon with static keys nothing. */
  async #load(): Promise<Provider> {
    const { defaultProvider } = await import('@aws-sdk/credential-provider-node');
    const note = (...parts: unknown[]) => void this.#said.push(parts.map(String).join(' '));
    return defaultProvider({
      clientConfig: { region: this.#region, requestHandler: this.#http },
      // Not from the SDK's memory of a file: that lasts as long as the process, and keys are rotated in files too.
      ignoreCache: true,
      logger: { trace: note, debug: note, info: note, warn: note, error: note },
    });
  }
}
