/**
 * An SNS endpoint for tests that need very many notifications or a misbehaving SNS: PublishBatch of the query API with
 * SNS's own XML and limits, and every kind of failed request.
 *
 * Maintained invariants:
 * - It calls `accepted` once for each acceptance, with whether the answer confirms it.
 * - A sender that violates SNS's limits gets SNS's answer, and an entry in `violations`.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** One entry of a batch, as received. */
export interface StubEntry {
  readonly id: string;
  readonly message: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly groupId: string | undefined;
  readonly deduplicationId: string | undefined;
  /** As SNS counts: message, and names, types and values of attributes. */
  readonly bytes: number;
}

export interface StubRequest {
  /** Path of the URL, to tell senders apart. */
  readonly path: string;
  readonly topicArn: string;
  readonly entries: readonly StubEntry[];
}

/** The failure of a request. With `accepts`, the messages are accepted although the sender can't know. */
export type Fault =
  /** An error for the whole request; without `code` a page that is not SNS's, as from a proxy. */
  | { readonly kind: 'error'; readonly status: number; readonly code?: string; readonly message?: string }
  /** Resets the connection instead of answering. */
  | { readonly kind: 'reset'; readonly accepts: boolean }
  /** Does not answer until the sender gives up. */
  | { readonly kind: 'hang'; readonly accepts: boolean }
  /** Accepts, but truncates the answer: its text, or the connection too. */
  | { readonly kind: 'truncated'; readonly connection: boolean }
  /** Fails the entries at these positions, not by the sender's fault. */
  | { readonly kind: 'some-fail'; readonly positions: ReadonlySet<number> }
  /** Accepts, but the answer has ids that were not sent, lacks one, repeats one, or also reports it as failed. */
  | { readonly kind: 'ids'; readonly lie: 'unknown' | 'missing' | 'twice' | 'both' }
  /** Accepts, and answers late. */
  | { readonly kind: 'slow'; readonly ms: number };

export interface StubOptions {
  readonly port?: number;
  /** Called for every batch; undefined: no failure. */
  readonly fault?: (request: StubRequest) => Fault | undefined;
  /** Whether SNS refuses a message for good, in its entry or for the whole request. */
  readonly refuses?: (entry: StubEntry, request: StubRequest) => 'entry' | 'request' | undefined;
  /** @param told whether the answer confirms this entry */
  readonly accepted?: (entry: StubEntry, request: StubRequest, told: boolean) => void;
}

export interface StubSns extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Violated limits of SNS. */
  readonly violations: readonly string[];
  /** How many requests met each kind of fault. */
  readonly faults: ReadonlyMap<string, number>;
  readonly requests: number;
}

const MAX_ENTRIES = 10;
const MAX_BYTES = 262_144;
const NAMESPACE = 'http://sns.amazonaws.com/doc/2010-03-31/';
const PROXY_PAGE = '<html><h1>Oops</h1></html>';
const REQUEST_ID = '2d6a1b5c-3f3e-5b5f-9d6d-4b6e5a1f0c00';

export async function startStubSns(options: StubOptions = {}): Promise<StubSns> {
  const violations: string[] = [];
  const faults = new Map<string, number>();
  let requests = 0;

  const server = http.createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      requests += 1;
      const form = Buffer.concat(chunks).toString();
      if (!incoming.headers.authorization?.startsWith('AWS4-HMAC-SHA256 ')) violations.push('a request is not signed');
      if (form.includes('Action=GetTopicAttributes')) carryOut({ status: 200, xml: topicAttributesAnswer }, response);
      else carryOut(replyTo(readRequest(incoming.url ?? '/', form)), response);
    });
  });

  function replyTo(request: StubRequest): Reply {
    const broken = brokenLimit(request);
    if (broken) {
      violations.push(`${broken.code}: ${broken.message}`);
      return { status: 400, xml: errorAnswer(broken.code, broken.message) };
    }
    const fault = options.fault?.(request);
    if (fault) faults.set(fault.kind, (faults.get(fault.kind) ?? 0) + 1);
    if (fault?.kind === 'error') return { status: fault.status, xml: errorOf(fault) };
    if (fault?.kind === 'reset' && !fault.accepts) return 'reset';
    if (fault?.kind === 'hang' && !fault.accepts) return 'silence';
    return take(request, fault);
  }

  function take(request: StubRequest, fault: Fault | undefined): Reply {
    const refusals = request.entries.map((entry) => options.refuses?.(entry, request));
    if (refusals.includes('request'))
      return { status: 400, xml: errorAnswer('InvalidParameter', 'Invalid parameter: Message too strange') };
    const results = request.entries.map((entry, index): EntryResult => {
      if (refusals[index]) return { id: entry.id, failed: { code: 'InvalidParameter', senderFault: true } };
      if (fault?.kind === 'some-fail' && fault.positions.has(index))
        return { id: entry.id, failed: { code: 'InternalError', senderFault: false } };
      options.accepted?.(entry, request, tells(fault, index));
      return { id: entry.id };
    });
    return replyWith(results, fault);
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    violations,
    faults,
    get requests() {
      return requests;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Whether the answer tells the sender that the entry at this position was accepted. */
function tells(fault: Fault | undefined, position: number): boolean {
  if (!fault || fault.kind === 'slow' || fault.kind === 'some-fail') return true;
  // `lie` affects only the first entry.
  return fault.kind === 'ids' && (fault.lie === 'twice' || position > 0);
}

type Reply =
  | 'reset'
  | 'silence'
  /** `cut`: the connection ends in the middle of the body; `afterMs`: delays the answer. */
  | { readonly status: number; readonly xml: string; readonly cut?: boolean; readonly afterMs?: number };

/** The answer to an accepted batch, changed by the fault. */
function replyWith(results: readonly EntryResult[], fault: Fault | undefined): Reply {
  if (fault?.kind === 'hang') return 'silence';
  if (fault?.kind === 'reset') return 'reset';
  const xml = publishBatchAnswer(fault?.kind === 'ids' ? lie(results, fault.lie) : results);
  if (fault?.kind === 'slow') return { status: 200, xml, afterMs: fault.ms };
  if (fault?.kind !== 'truncated') return { status: 200, xml };
  return fault.connection
    ? { status: 200, xml, cut: true }
    : { status: 200, xml: xml.slice(0, Math.floor(xml.length / 2)) };
}

function carryOut(reply: Reply, response: http.ServerResponse): void {
  if (reply === 'silence') return;
  if (reply === 'reset') {
    response.socket?.resetAndDestroy();
    return;
  }
  const { status, xml, cut = false, afterMs = 0 } = reply;
  const write = () => {
    response.writeHead(status, { 'content-type': 'text/xml', 'content-length': Buffer.byteLength(xml) });
    if (cut) response.write(xml.slice(0, Math.floor(xml.length / 2)), () => response.destroy());
    else response.end(xml);
  };
  // An answer that nobody waits for keeps no test running.
  if (afterMs > 0) setTimeout(write, afterMs).unref();
  else write();
}

/** The result of one entry: accepted unless `failed`. */
export interface EntryResult {
  readonly id: string;
  readonly failed?: { readonly code: string; readonly senderFault: boolean };
}

function lie(results: readonly EntryResult[], how: 'unknown' | 'missing' | 'twice' | 'both'): EntryResult[] {
  const [first, ...rest] = results;
  if (!first) return [];
  if (how === 'missing') return rest;
  if (how === 'unknown') return [{ id: 'never-sent' }, ...rest];
  if (how === 'twice') return [first, first, ...rest];
  return [{ ...first, failed: { code: 'InternalError', senderFault: false } }, first, ...rest];
}

const MESSAGE_ID = '94f20ce6-13c5-43a0-9a9e-ca52d816e90b';

/** The XML of SNS's answer to a PublishBatch: https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html */
export function publishBatchAnswer(results: readonly EntryResult[]): string {
  let successful = '';
  let failed = '';
  for (const { id, failed: failure } of results) {
    if (failure)
      failed += `<member><Id>${id}</Id><Code>${failure.code}</Code><Message>as the test wanted</Message><SenderFault>${failure.senderFault}</SenderFault></member>`;
    else successful += `<member><MessageId>${MESSAGE_ID}</MessageId><Id>${id}</Id></member>`;
  }
  return `<PublishBatchResponse xmlns="${NAMESPACE}"><PublishBatchResult><Failed>${failed}</Failed><Successful>${successful}</Successful></PublishBatchResult>${metadata}</PublishBatchResponse>`;
}

const metadata = `<ResponseMetadata><RequestId>${REQUEST_ID}</RequestId></ResponseMetadata>`;

/** The XML of SNS's answer to a Publish. */
export const publishAnswer = `<PublishResponse xmlns="${NAMESPACE}"><PublishResult><MessageId>${MESSAGE_ID}</MessageId></PublishResult>${metadata}</PublishResponse>`;

/** An answer to GetTopicAttributes for a topic with default attributes: without MaximumMessageSize. */
const topicAttributesAnswer = `<GetTopicAttributesResponse xmlns="${NAMESPACE}"><GetTopicAttributesResult><attributes><entry><key>DisplayName</key><value/></entry></attributes></GetTopicAttributesResult>${metadata}</GetTopicAttributesResponse>`;

export function errorAnswer(code: string, message: string): string {
  const type = /^Internal|^Service/.test(code) ? 'Receiver' : 'Sender';
  return `<ErrorResponse xmlns="${NAMESPACE}"><Error><Type>${type}</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>${REQUEST_ID}</RequestId></ErrorResponse>`;
}

const errorOf = ({ code, message = 'as the test wanted' }: Extract<Fault, { kind: 'error' }>): string =>
  code ? errorAnswer(code, message) : PROXY_PAGE;

function brokenLimit({ topicArn, entries }: StubRequest): { code: string; message: string } | undefined {
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  const ids = new Set(entries.map(({ id }) => id));
  if (entries.length === 0) return { code: 'EmptyBatchRequest', message: 'no entries' };
  if (entries.length > MAX_ENTRIES)
    return { code: 'TooManyEntriesInBatchRequest', message: `${entries.length} entries` };
  if (ids.size < entries.length) return { code: 'BatchEntryIdsNotDistinct', message: entries.map((e) => e.id).join() };
  for (const id of ids)
    if (!/^[A-Za-z0-9_-]{1,80}$/.test(id)) return { code: 'InvalidBatchEntryId', message: `the id ${id}` };
  if (bytes > MAX_BYTES) return { code: 'BatchRequestTooLong', message: `${bytes} bytes` };
  if (
    topicArn.endsWith('.fifo') &&
    !entries.every((entry) => isFifoId(entry.groupId) && isFifoId(entry.deduplicationId))
  )
    return { code: 'InvalidParameter', message: 'a FIFO topic needs MessageGroupId and MessageDeduplicationId' };
  return undefined;
}

/** https://docs.aws.amazon.com/sns/latest/api/API_PublishBatchRequestEntry.html */
const isFifoId = (id: string | undefined): boolean => id !== undefined && /^[!-~]{1,128}$/.test(id);

const ENTRY_FIELD = /^PublishBatchRequestEntries\.member\.(\d+)\.(.+)$/;

function readRequest(path: string, form: string): StubRequest {
  const fields = new Map<string, Map<string, string>>();
  let topicArn = '';
  for (const pair of form.split('&')) {
    const equals = pair.indexOf('=');
    const name = pair.slice(0, equals);
    const value = decodeURIComponent(pair.slice(equals + 1).replaceAll('+', ' '));
    const [, member, field] = ENTRY_FIELD.exec(name) ?? [];
    if (name === 'TopicArn') topicArn = value;
    if (member === undefined || field === undefined) continue;
    const entry = fields.get(member) ?? new Map<string, string>();
    fields.set(member, entry.set(field, value));
  }
  return { path, topicArn, entries: [...fields.values()].map(readEntry) };
}

function readEntry(fields: ReadonlyMap<string, string>): StubEntry {
  const message = fields.get('Message') ?? '';
  const attributes = new Map<string, string>();
  let bytes = Buffer.byteLength(message);
  for (let entry = 1; fields.has(`MessageAttributes.entry.${entry}.Name`); entry++) {
    const field = (name: string) => fields.get(`MessageAttributes.entry.${entry}.${name}`) ?? '';
    const value = field('Value.StringValue') || field('Value.BinaryValue');
    attributes.set(field('Name'), value);
    bytes += Buffer.byteLength(field('Name') + field('Value.DataType') + value);
  }
  return {
    id: fields.get('Id') ?? '',
    message,
    attributes,
    groupId: fields.get('MessageGroupId'),
    deduplicationId: fields.get('MessageDeduplicationId'),
    bytes,
  };
}
