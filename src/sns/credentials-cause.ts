/**
 * Explains why AWS's provider chain has no credentials. Its own error only says that there are none; the causes are in
 * its log, among irrelevant lines.
 */
import { messageOf } from '../errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Log lines of providers that are not configured. */
const IDLE = [
  /^AWS_PROFILE is set, skipping/,
  /^Skipping SSO provider/,
  /^Unable to find environment variable/,
  /^Web identity configuration not specified/,
  /^Could not load credentials from any/,
  /^AWS_EC2_METADATA_V1_DISABLED/,
  /^EC2 Instance Metadata Service access disabled/,
  /\[default\] in configuration\/credentials file/,
  /^Profile default could not be found/,
  // The profile provider has logged this already.
  /^Profile \S+ (could not be found in shared credentials file|did not contain credential_process)/,
];
const NONE =
  'none found: no keys in the environment, no profile, no web identity, and no role of a container or an instance';
const MOST_CHARACTERS = 300;

/**
 * Explains the cause in a sentence, without secrets.
 * @param error the chain's error
 * @param said lines of its log
 */
export async function credentialsCause(
  error: unknown,
  said: readonly string[],
  environment: Environment,
): Promise<string> {
  const lines = said.map((line) => /^@smithy\/property-provider (?:->|\(!\)) (.*)/s.exec(line)?.[1] ?? '');
  const causes = [...halfOfKeys(environment), ...lines.filter((line) => line && !IDLE.some((idle) => idle.test(line)))];
  if (!/^Could not load credentials from any/.test(messageOf(error))) causes.push(thrown(error));
  causes.push(...(await remoteCauses(environment)));
  const distinct = [...new Set(causes.map(withoutSecrets))];
  return (distinct.join('; ') || NONE).slice(0, MOST_CHARACTERS);
}

/** One of two variables that belong together. */
function halfOfKeys(environment: Environment): string[] {
  const names = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];
  const missing = names.filter((name) => !environment[name]);
  const there = names.filter((name) => environment[name]);
  return missing.length === 1 && there.length === 1 ? [`${there[0]} is set and ${missing[0]} is not`] : [];
}

/** An error of the chain itself, such as a refusal by STS, with its HTTP status. */
function thrown(error: unknown): string {
  const { $metadata, name } = error as { $metadata?: { httpStatusCode?: number }; name?: string };
  const [line = ''] = messageOf(error).split('\n');
  const status = $metadata?.httpStatusCode === undefined ? '' : `HTTP ${$metadata.httpStatusCode}: `;
  return `${status}${name === undefined || /^(Error|CredentialsProviderError)$/.test(name) ? '' : `${name}: `}${line}`;
}

/** The container agent's error message; the chain swallows it, so ask the agent again. */
async function remoteCauses(environment: Environment): Promise<string[]> {
  const { AWS_CONTAINER_CREDENTIALS_FULL_URI: full, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: relative } = environment;
  if (!full && !relative) return [];
  const { fromHttp } = await import('@aws-sdk/credential-provider-http');
  const silent = () => {};
  const logger = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };
  try {
    await fromHttp({ maxRetries: 0, logger })();
    return [];
  } catch (error) {
    return [`the container's credentials endpoint: ${messageOf(error)}`];
  }
}

/**
 * Removes possible secrets: arguments and output of a process, long runs of mixed-case letters and digits, and quoted
 * JSON.
 */
function withoutSecrets(text: string): string {
  const [line = ''] = text.split('\n');
  const command = /^Command failed: (\S+)/.exec(line)?.[1];
  if (command !== undefined)
    return `credential_process ${command} failed; its arguments and output are not shown, because they may contain secrets`;
  return line
    .replace(/[\p{Cc}]+/gu, ' ')
    .replace(/\b(?=[A-Za-z0-9+/=]*\d)(?=[A-Za-z0-9+/=]*[a-z])(?=[A-Za-z0-9+/=]*[A-Z])[A-Za-z0-9+/=]{32,}/g, '…');
}
