/**
 * Signed requests to SNS as the daemon sends them, with all that came back: `check` tells from headers and bodies what the
 * daemon need not look at, a proxy's page or the other side's clock.
 */
import path from 'node:path';
import { Pool } from 'undici';
import type { SnsOptions } from '../../config/options.ts';
import { messageOf } from '../../errors.ts';
import { readCa } from '../account.ts';
import { credentialsOf } from '../credentials.ts';
import { createSigner } from '../signature.ts';
import { CONTENT_TYPE, readError, readTopicAttributes } from '../wire.ts';

/** Somebody answered: SNS, or what stands between. */
export interface Answer {
  readonly kind: 'answer';
  readonly status: number;
  /** Whether the body has the form of SNS's answers. */
  readonly fromSns: boolean;
  /** SNS's error; undefined when it did what it was asked. */
  readonly error: { readonly code: string; readonly message: string } | undefined;
  /** Attributes in the answer to GetTopicAttributes. */
  readonly attributes: ReadonlyMap<string, string>;
  /** The clock of who answered, and ours at that moment; milliseconds since the Unix epoch. */
  readonly date: number | undefined;
  readonly receivedAt: number;
  /** Who answered, as far as the headers say. */
  readonly server: string;
  readonly contentType: string;
}

export type Observation =
  | Answer
  | { readonly kind: 'unreachable'; readonly code: string; readonly message: string }
  | { readonly kind: 'no-credentials'; readonly message: string };

export interface Probe {
  /** Sends an action of SNS's query API. Never throws for what SNS or the network does. */
  ask(parameters: Readonly<Record<string, string>>): Promise<Observation>;
  close(): Promise<void>;
}

const TIMEOUT_MS = 10_000;
/** More than any answer of SNS; a proxy's page may be anything. */
const MOST_BYTES = 1_048_576;

/**
 * @param folder what relative paths are relative to
 * @throws PusherError CONFIG_INVALID when `ca_file` can't be read
 */
export function openProbe(options: SnsOptions, folder: string): Probe {
  const { sns_host: endpoint, region, ca_file } = options;
  const ca = ca_file === undefined ? undefined : readCa(path.resolve(folder, ca_file));
  const credentials = credentialsOf(options);
  const signer = createSigner(endpoint, region, 'sns', CONTENT_TYPE);
  const pool = new Pool(endpoint.origin, {
    connect: { timeout: TIMEOUT_MS, ...(ca !== undefined && { ca }) },
    headersTimeout: TIMEOUT_MS,
    bodyTimeout: TIMEOUT_MS,
    maxResponseSize: MOST_BYTES,
  });
  return {
    async ask(parameters) {
      const form = new URLSearchParams({ Version: '2010-03-31', ...parameters }).toString();
      let headers: Record<string, string>;
      try {
        headers = { ...signer.sign(form, await credentials.get(), Date.now()) };
      } catch (error) {
        return { kind: 'no-credentials', message: messageOf(error) };
      }
      try {
        const response = await pool.request({ method: 'POST', path: endpoint.pathname, headers, body: form });
        return answerOf(response.statusCode, response.headers, await response.body.text());
      } catch (error) {
        const { code = 'NetworkError' } = error as { code?: string };
        return { kind: 'unreachable', code, message: messageOf(error) || code };
      }
    },
    close: () => pool.close(),
  };
}

/** Exported for tests: what an answer with these headers and this body says. */
export function answerOf(
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  text: string,
  receivedAt = Date.now(),
): Answer {
  const header = (name: string) => [headers[name] ?? []].flat().join(', ');
  const date = Date.parse(header('date'));
  const fromSns = status === 200 ? /<\w+Response[ >]/.test(text) : /<ErrorResponse[ >]/.test(text);
  return {
    kind: 'answer',
    status,
    fromSns,
    error: fromSns && status !== 200 ? readError(text) : undefined,
    attributes: readTopicAttributes(text),
    date: Number.isNaN(date) ? undefined : date,
    receivedAt,
    server: [header('server'), header('via')].filter(Boolean).join(', via '),
    contentType: header('content-type'),
  };
}
