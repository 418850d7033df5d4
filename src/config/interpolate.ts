/** Environment variables in a configuration: `${NAME}` in any text. */
import { oddCharacter } from './characters.ts';

export type Table = Record<string, unknown>;
export type Environment = Readonly<Record<string, string | undefined>>;

/** One mistake in a configuration file: the dotted path and the problem. */
export interface Mistake {
  readonly path: string;
  readonly problem: string;
}

export const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);

/** Options for requests to AWS. Where a command makes none, a placeholder replaces what is missing. */
export const KEYS = /\.(access_key_id|secret_access_key|proxy)$/;
/** Secrets, files and addresses that only the daemon needs; likewise. */
export const DAEMON_ONLY = /^(tap|outbox|admin)\..*?(secret|token|tls_cert|tls_key|(ca|cert|key)_file|url(\[\d+\])?)$/;
/** The placeholder. */
export const NO_SECRET = 'a-secret-that-is-not-needed';

/** A variable's value; never an inherited property such as `constructor`. */
export const variableOf = (environment: Environment, name: string): string | undefined =>
  Object.hasOwn(environment, name) ? environment[name] : undefined;

/** Replaces `${NAME}` in every string below `value`; `$${` stands for a literal `${`. */
export function interpolate(
  value: unknown,
  at: string,
  lookUp: (name: string, at: string) => string | undefined,
  mistakes: Mistake[],
): unknown {
  if (typeof value === 'string')
    return value.replace(
      /\$(\$\{)|\$\{([^}]*)(\}?)/g,
      (whole, literal: string | undefined, name: string, end: string) => {
        if (literal) return literal;
        if (!end) {
          mistakes.push({ path: at, problem: 'has ${ without a } after it; $${ stands for ${ itself' });
          return whole;
        }
        const found = lookUp(name, at);
        if (found === undefined)
          mistakes.push({ path: at, problem: `refers to \${${name}}, which is not set in the environment` });
        const odd = oddCharacter(found ?? '');
        if (odd) mistakes.push({ path: at, problem: `refers to \${${name}}, whose value ${odd}` });
        return found ?? `\${${name}}`;
      },
    );
  if (Array.isArray(value)) return value.map((item, index) => interpolate(item, `${at}[${index}]`, lookUp, mistakes));
  if (isTable(value))
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, interpolate(item, `${at}.${key}`, lookUp, mistakes)]),
    );
  return value;
}
