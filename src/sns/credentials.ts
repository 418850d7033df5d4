/** Where an account's AWS credentials come from. */
import type { SnsOptions } from '../config/options.ts';
import type { AwsCredentials } from './signature.ts';

export interface CredentialSource {
  /** Credentials that have not expired. @throws when there are none to be had */
  get(): AwsCredentials | Promise<AwsCredentials>;
  /** AWS does not take these any more: the next `get` brings new ones, if there are. */
  expired(credentials: AwsCredentials): void;
}

/**
 * Static keys, or AWS's own provider chain: environment, shared profile (assumed roles, SSO, processes), web identity,
 * container and instance metadata. The chain renews what has less than five minutes left.
 * https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
 */
export function credentialsOf(options: SnsOptions): CredentialSource {
  const { credentials, access_key_id: accessKeyId, secret_access_key: secretAccessKey } = options;
  if (credentials === 'static' && accessKeyId !== undefined && secretAccessKey !== undefined) {
    const keys = { accessKeyId, secretAccessKey };
    return { get: () => keys, expired: () => {} };
  }
  return fromProviderChain(options.region);
}

function fromProviderChain(region: string): CredentialSource {
  // Loaded when it is asked for: it costs a daemon with static keys nothing.
  const chain = import('@aws-sdk/credential-provider-node').then(({ defaultProvider }) =>
    // Not from the SDK's memory of a file: that lasts as long as the process, and keys are rotated in files too.
    defaultProvider({ clientConfig: { region }, ignoreCache: true }),
  );
  let forceRefresh = false;
  let current: AwsCredentials | undefined;
  return {
    async get() {
      const provider = await chain;
      const refresh = forceRefresh;
      forceRefresh = false;
      current = await provider({ forceRefresh: refresh });
      return current;
    },
    expired(credentials) {
      // Late answers to requests that were signed with older ones say nothing of these.
      if (credentials.accessKeyId === current?.accessKeyId) forceRefresh = true;
    },
  };
}
