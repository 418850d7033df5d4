/** Where an account's AWS credentials come from. */
import type { SnsOptions } from '../config/options.ts';
import type { AwsCredentials } from './signature.ts';

export interface CredentialSource {
  /** Credentials that have not expired. @throws when there are none to be had */
  get(): AwsCredentials | Promise<AwsCredentials>;
  /** AWS says that they have expired: the next `get` brings new ones. */
  expired(): void;
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
    defaultProvider({ clientConfig: { region } }),
  );
  let forceRefresh = false;
  return {
    async get() {
      const provider = await chain;
      const refresh = forceRefresh;
      forceRefresh = false;
      return provider({ forceRefresh: refresh });
    },
    expired() {
      forceRefresh = true;
    },
  };
}
