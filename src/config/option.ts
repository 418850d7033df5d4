/** The parts that options are made of: their descriptions, rules over several options, and common types. */
import { z } from 'zod';
import { unusableCharacter } from './characters.ts';

/** An option's description, for the reference page and the error messages. */
export interface OptionText {
  /** Completes "should be …". */
  readonly expects: string;
  /** Its description, in Markdown. */
  readonly text: string;
  readonly example?: string;
  /** Names the default where the schema can't show it. */
  readonly fallback?: string;
}

export const optionTexts = z.registry<OptionText>();

/** A rule that spans several options: returns the mistakes of a section as written, by option. */
type SectionRule = (section: Readonly<Record<string, unknown>>) => { option: string; problem: string }[];

/** Kept outside the schemas, so that these mistakes are listed together with all others. */
export const sectionRules = new Map<z.ZodType, SectionRule>();

export function option<S extends z.ZodType>(schema: S, text: OptionText): S {
  optionTexts.add(schema, text);
  return schema;
}

/** Whether a host, in the form of a URL or `Host` header, is this machine itself. */
export const isLoopback = (host: string): boolean => /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/i.test(host);

/** A listening address: `host` as written (IPv6 without brackets) and a port. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly loopback: boolean;
}

export const listen = z.string().transform((value, context): ListenAddress => {
  const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})$/.exec(value);
  const port = Number(match?.[2]);
  if (!match?.[1] || port > 65_535) {
    context.addIssue({ code: 'custom', input: value });
    return z.NEVER;
  }
  return { host: match[1].replace(/^\[|\]$/g, ''), port, loopback: isLoopback(match[1]) };
});

/** A secret that a header can contain unchanged; errors name the wrong character, never the secret. */
export const secret = (options?: { spaces?: boolean; least?: number }) =>
  z
    .string()
    .min(options?.least ?? 1)
    .superRefine((value, context) => {
      const problem = unusableCharacter(value, options);
      if (problem) context.addIssue({ code: 'custom', input: value, message: problem, params: { problem } });
    });

export const count = (minimum: number, maximum: number) => z.int().min(minimum).max(maximum);

/** Minimum length of a secret when other machines can try to guess it. */
export const LEAST_BEYOND_LOOPBACK = 20;

/** The mistake in the secret of a server that listens there; undefined if there is none. */
export function secretProblems(section: Readonly<Record<string, unknown>>, option: string) {
  const address = listen.safeParse(section.listen);
  if (!address.success || address.data.loopback) return [];
  const value = section[option];
  const where = 'when `listen` is not a loopback address';
  if (value === undefined) return [{ option, problem: `is required ${where}` }];
  if (typeof value !== 'string' || value.length >= LEAST_BEYOND_LOOPBACK) return [];
  return [{ option, problem: `is too short, should have ${LEAST_BEYOND_LOOPBACK} characters or more ${where}` }];
}

/** The mistake if only one of two options that belong together is set. */
export function pairProblems(section: Readonly<Record<string, unknown>>, one: string, two: string) {
  const pairs = [
    [one, two],
    [two, one],
  ] as const;
  return pairs.flatMap(([option, other]) =>
    section[option] === undefined && section[other] !== undefined
      ? [{ option, problem: `is missing: \`${one}\` and \`${two}\` go together` }]
      : [],
  );
}

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration such as `90s`, `15m`, `1h` or `7d`, in milliseconds; `off` is 0. */
export const duration = z.string().transform((value, context): number => {
  if (value === 'off') return 0;
  const [, digits, unit] = /^([1-9]\d{0,6})([smhd])$/.exec(value) ?? [];
  if (unit) return Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
  context.addIssue({ code: 'custom', input: value });
  return z.NEVER;
});
export const DURATION_EXPECTS = 'a length of time such as "90s", "15m", "1h" or "7d", or "off"';

export const brokerUrl = z.string().superRefine((value, context) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (!url || !/^amqps?:$/.test(url.protocol) || url.hostname === '' || url.hash)
    context.addIssue({ code: 'custom', input: value });
});
