/**
 * The source of an account's AWS credentials.
 *
 * Maintained invariants of the provider chain:
 * - At most one fetch runs at a time; concurrent callers share it.
 * - While there are usable credentials, the chain is asked at most once per FETCH_EVERY_MS: credentials that expire
 *   soon, or at once, must not start a process for each request.
 */
import type { SnsOptions } from '../config/sns-options.ts';
import { credentialsCause } from './credentials-cause.ts';
import { createSdkHttp, type SdkHttp } from './sdk-http.ts';
import type { AwsCredentials } from './signature.ts';

export interface CredentialSource {
  /** Returns unexpired credentials. @throws if no provider has any, with the cause and without secrets */
  get(): AwsCredentials | Promise<AwsCredentials>;
  /** AWS rejected these credentials; the next `get` fetches fresh ones. */
  expired(credentials: AwsCredentials): void;
  /** Closes its connections. */
  close?(): void;
}

/**
 * Static keys, or AWS's own provider chain: environment, shared profile (assumed roles, SSO, processes), web identity,
 * container and instance metadata. The chain renews credentials with less than five minutes left.
 * https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
 * @param fetchEveryMs shortest time between two fetches, in milliseconds
 */
export function credentialsOf(options: SnsOptions, fetchEveryMs = FETCH_EVERY_MS): CredentialSource {
  const { credentials, access_key_id: accessKeyId, secret_access_key: secretAccessKey } = options;
  if (credentials === 'static' && accessKeyId !== undefined && secretAccessKey !== undefined) {
    const keys = { accessKeyId, secretAccessKey };
    return { get: () => keys, expired: () => {} };
  }
  return new ProviderChain(options, fetchEveryMs);
}

/** Credentials with less time left are renewed, in milliseconds. */
const RENEW_BEFORE_MS = 5 * 60_000;
/** Shortest time between two fetches while the chain has credentials, and while it has none, in milliseconds. */
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
  /** The chain's log since the last fetch began. */
  #said: string[] = [];
  #current: Given | undefined;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  /** AWS rejected the current credentials. */
  #refused = false;
  #refusedAt = Number.NEGATIVE_INFINITY;
  #pending: Promise<Given> | undefined;
  /** Why the last fetch failed. */
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
    // Fresh credentials are used however little time they have left: with a wrong clock they seem to expire at once.
    if (left > RENEW_BEFORE_MS || since < this.#fetchEveryMs) return current;
    if (left <= 0) return this.#fetch();
    // Still usable. If refreshing keeps failing, the error is reported once they have expired.
    this.#fetch().catch(() => {});
    return current;
  }

  expired(credentials: AwsCredentials): void {
    // A late answer to a request signed with older credentials says nothing about these.
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
      // Always refresh: the cache is here, not in the SDK.
      this.#current = await provider({ forceRefresh: true, callerClientConfig: properties });
      this.#failure = undefined;
      return this.#current;
    } catch (error) {
      this.#failure = new Error(await credentialsCause(error, this.#said, process.env), { cause: error });
      throw this.#failure;
    }
  }

  /** Imported on first use, so that a daemon with static keys doesn't pay for it. */
  async #load(): Promise<Provider> {
    const { defaultProvider } = await import('@aws-sdk/credential-provider-node');
    const note = (...parts: unknown[]) => void this.#said.push(parts.map(String).join(' '));
    return defaultProvider({
      clientConfig: { region: this.#region, requestHandler: this.#http },
      // Bypass the SDK's file cache, which lasts as long as the process: keys are rotated in files too.
      ignoreCache: true,
      logger: { trace: note, debug: note, info: note, warn: note, error: note },
    });
  }
}
