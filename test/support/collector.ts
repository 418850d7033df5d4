/**
 * A tap for adapter tests: an HTTP server that accepts batches by the tap protocol, remembers them, and misbehaves on
 * request.
 *
 * It enforces the protocol: violations (a wrong form, two different events with one number, two simultaneous batches of
 * one queue) are recorded, and every later wait throws them.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import { type Element, escapeXML, parse } from 'ltx';
import { freePorts, until } from './process.ts';
import { assertValid } from './schemas.ts';

interface Numbered {
  readonly source: string;
  readonly epoch: string;
  readonly seq: number;
}

export type CollectedPresence = Numbered & {
  readonly kind: 'presence';
  readonly at: number;
  readonly host: string;
  readonly jid: string;
  readonly present: boolean;
  readonly sessions?: number;
};

export type CollectedMessage = Numbered & {
  readonly kind: 'message';
  readonly at: number;
  readonly host: string;
  readonly type: 'chat' | 'groupchat';
  readonly from: string;
  readonly to: string;
  readonly body: string;
  readonly stanza_id?: string;
  readonly stanza?: string;
};

export type CollectedEvent = CollectedPresence | CollectedMessage;

export type Fault =
  /** Answers with this status; does not accept the batch. */
  | { kind: 'status'; status: number; retryAfter?: number }
  /** Answers 503 and closes the connection before it has read the batch. */
  | { kind: 'early' }
  /** Answers 200 with a web page, as another server would; does not accept the batch. */
  | { kind: 'page' }
  /** Accepts the batch; its answer comes in two pieces and ends with the connection. */
  | { kind: 'pieces' }
  /** Accepts the batch, and answers after an interim answer (1xx). */
  | { kind: 'interim' }
  /** Answers 413 to more events than this. */
  | { kind: 'too-large'; above: number }
  /** Answers 503 once it has more events than this. */
  | { kind: 'full'; above: number }
  /** Answers 413 with a web page to any batch, as a proxy would. */
  | { kind: 'proxy-413' }
  /** Answers 413 to a batch with an event that has this body. */
  | { kind: 'too-large-event'; body: string }
  /** Answers 200 with these texts, one after another, removing them from the list; does not accept the batches. */
  | { kind: 'bodies'; bodies: string[] }
  /**
   * Answers endlessly; counts the answers that the client aborted, and the most bytes that it took of one. Does not
   * accept the batch.
   */
  | { kind: 'endless'; where: 'head' | 'body' | 'chunks'; ended: number; mostBytes: number }
  /** Reads the request and never answers. */
  | { kind: 'hang' }
  /** Accepts the batch, then closes the connection without an answer; `once`: only this time. */
  | { kind: 'lost-answer'; once?: boolean }
  /** Reports the batch's first events (default: all) as known without accepting them, this many times. */
  | { kind: 'known'; count?: number; times: number }
  /** Accepts the batch, but reports this event as refused. */
  | { kind: 'reject'; index: number; reason: string };

export interface Request {
  readonly at: number;
  readonly firstSeq: number;
  readonly count: number;
  readonly status: number;
}

export interface Collector extends AsyncDisposable {
  readonly url: string;
  readonly secret: string;
  /** Accepted events in order, each number once. */
  readonly events: readonly CollectedEvent[];
  /** How many events arrived that it already had. */
  readonly duplicates: number;
  /** Numbers that are missing before a later one. */
  readonly holes: readonly { source: string; epoch: string; from: number; to: number }[];
  readonly requests: readonly Request[];
  fault: Fault | undefined;
  /** Accepts old events, such as those in a test's file; at first false. */
  anyTime: boolean;
  /** Accepts small messages without a stanza, such as deeply nested ones; at first false. */
  anyStanza: boolean;
  /** Closes its port: refuses connections. */
  refuse(): Promise<void>;
  /** Reopens the port. */
  listen(): Promise<void>;
  /**
   * Waits until the condition holds. Throws at the first violation of the protocol, and after the timeout with the
   * events so far.
   */
  wait(what: string, condition: () => boolean, ms?: number): Promise<void>;
  /** Throws if an adapter violated the protocol. */
  check(): void;
}

interface Queue {
  last: number;
  readonly events: Map<number, string>;
  busy: boolean;
}

/** Limit of the protocol. */
const maxEvents = 1_000;
/** About 1 MiB, the adapters' limit, plus one event. */
const maxBytes = 1_400_000;
/** The tap's limit: only a large event alone comes close. */
const tapBytes = 4 * 1024 * 1024;
/** A larger event must come without its stanza. */
const maxEventBytes = 3 * 1024 * 1024;

export interface CollectorOptions {
  /** The expected bearer token; default: `secret`. */
  secret?: string;
  /** Makes it serve https. */
  tls?: { key: Buffer; cert: Buffer };
  /** Accepts the text of the first body in any namespace, as MongooseIM does; default: false. */
  anyBody?: boolean;
}

export async function startCollector({
  secret = 'secret',
  tls,
  anyBody = false,
}: CollectorOptions = {}): Promise<Collector> {
  const [port] = await freePorts(1);
  const events: CollectedEvent[] = [];
  const holes: { source: string; epoch: string; from: number; to: number }[] = [];
  const requests: Request[] = [];
  const violations: unknown[] = [];
  const queues = new Map<string, Queue>();
  let duplicates = 0;
  let server: http.Server | undefined;

  function queueOf(source: string, epoch: string): Queue {
    const key = `${source}/${epoch}`;
    const queue = queues.get(key) ?? { last: 0, events: new Map(), busy: false };
    queues.set(key, queue);
    return queue;
  }

  function accept(batch: Batch): { accepted: number; duplicates: number } {
    const { source, epoch, first_seq: first } = batch;
    const queue = queueOf(source, epoch);
    // As the daemon does: whatever comes first of an epoch is no hole.
    if (queue.last > 0 && first > queue.last + 1) holes.push({ source, epoch, from: queue.last + 1, to: first - 1 });
    let accepted = 0;
    for (const [index, event] of batch.events.entries()) {
      const seq = first + index;
      const text = JSON.stringify(event, Object.keys(event).sort());
      const known = queue.events.get(seq);
      if (known !== undefined) {
        assert.equal(text, known, `two different events under number ${seq}`);
        duplicates++;
        continue;
      }
      assert.ok(seq > queue.last, `number ${seq} came after ${queue.last}, but not before`);
      queue.events.set(seq, text);
      queue.last = seq;
      events.push({ ...event, source, epoch, seq } as CollectedEvent);
      accepted++;
    }
    return { accepted, duplicates: batch.events.length - accepted };
  }

  function answer(response: http.ServerResponse, batch: Batch): void {
    const { fault } = collector;
    const reply = (status: number, body: unknown, headers: http.OutgoingHttpHeaders = {}) => {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status });
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    };
    const refuse = (status: number, headers = {}) =>
      reply(status, { error: { code: 'test', message: 'as the test wanted' } }, headers);
    if (fault?.kind === 'hang') {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status: 0 });
      return;
    }
    if (fault?.kind === 'status') {
      refuse(fault.status, fault.retryAfter === undefined ? {} : { 'retry-after': String(fault.retryAfter) });
      return;
    }
    if (fault?.kind === 'page') {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status: 200 });
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>It works!</body></html>');
      return;
    }
    if (fault?.kind === 'too-large' && batch.events.length > fault.above) {
      reply(413, { error: { code: 'too_large', message: 'as the test wanted' } });
      return;
    }
    if (fault?.kind === 'too-large-event' && batch.events.some(({ body }) => body === fault.body)) {
      reply(413, { error: { code: 'too_large', message: 'as the test wanted' } });
      return;
    }
    const raw = (status: number, type: string, text: string) => {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status });
      response.writeHead(status, { 'content-type': type }).end(text);
    };
    if (fault?.kind === 'proxy-413') {
      raw(413, 'text/html', '<html><body>413 Request Entity Too Large</body></html>');
      return;
    }
    const odd = fault?.kind === 'bodies' ? fault.bodies.shift() : undefined;
    if (odd !== undefined) {
      raw(200, 'application/json', odd);
      return;
    }
    if (fault?.kind === 'endless') {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status: 0 });
      answerForEver(response, fault);
      return;
    }
    if (fault?.kind === 'full' && events.length > fault.above) {
      refuse(503);
      return;
    }
    if (fault?.kind === 'known' && fault.times > 0) {
      collector.fault = { ...fault, times: fault.times - 1 };
      const known = Math.min(fault.count ?? batch.events.length, batch.events.length);
      // As if another run had used these numbers.
      queueOf(batch.source, batch.epoch).last = batch.first_seq + known - 1;
      const others = { ...batch, first_seq: batch.first_seq + known, events: batch.events.slice(known) };
      reply(200, { accepted: accept(others).accepted, duplicates: known, rejected: [] });
      return;
    }
    const counts = accept(batch);
    if (fault?.kind === 'lost-answer') {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status: 0 });
      if (fault.once) collector.fault = undefined;
      response.destroy();
      return;
    }
    if (fault?.kind === 'interim') {
      response.writeContinue();
      response.writeProcessing();
    }
    if (fault?.kind === 'pieces') {
      requests.push({ at: Date.now(), firstSeq: batch.first_seq, count: batch.events.length, status: 200 });
      // Neither Content-Length nor chunks.
      response.removeHeader('transfer-encoding');
      response.writeHead(200, { 'content-type': 'application/json' }).write(`{"accepted":${counts.accepted},`);
      setTimeout(() => response.end(`"duplicates":${counts.duplicates},"rejected":[]}`), 100);
      return;
    }
    if (fault?.kind === 'reject') {
      reply(200, {
        ...counts,
        accepted: counts.accepted - 1,
        rejected: [{ index: fault.index, reason: fault.reason }],
      });
      return;
    }
    reply(200, { ...counts, rejected: [] });
  }

  async function take(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    if (collector.fault?.kind === 'early') {
      requests.push({ at: Date.now(), firstSeq: 0, count: 0, status: 503 });
      response.writeHead(503, { connection: 'close' }).end();
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const payload = Buffer.concat(chunks);
    if (request.headers.authorization !== Buffer.from(`Bearer ${secret}`).toString('latin1')) {
      requests.push({ at: Date.now(), firstSeq: 0, count: 0, status: 401 });
      response.writeHead(401, { 'content-type': 'application/json' });
      response.end('{"error":{"code":"unauthorized","message":"no or wrong secret"}}');
      return;
    }
    const batch = readBatch(request, payload, { anyTime: collector.anyTime, anyStanza: collector.anyStanza, anyBody });
    const queue = queueOf(batch.source, batch.epoch);
    assert.ok(!queue.busy, 'a second batch of one queue while the first is under way');
    queue.busy = true;
    response.once('close', () => {
      queue.busy = false;
    });
    answer(response, batch);
  }

  const collector: Collector = {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}/v1/events`,
    secret,
    events,
    holes,
    requests,
    get duplicates() {
      return duplicates;
    },
    fault: undefined,
    anyTime: false,
    anyStanza: false,
    async listen() {
      if (server) return;
      const serve: http.RequestListener = (request, response) => {
        take(request, response).catch((error: unknown) => {
          // A sender killed in the middle of its request violates nothing.
          if (!request.complete) return;
          violations.push(error);
          response.destroy();
        });
      };
      server = tls ? https.createServer(tls, serve) : http.createServer(serve);
      await new Promise<void>((resolve) => server!.listen(port, '127.0.0.1', resolve));
    },
    async refuse() {
      const closing = server;
      server = undefined;
      closing?.closeAllConnections();
      await new Promise<void>((resolve) => (closing ? closing.close(() => resolve()) : resolve()));
    },
    check() {
      if (violations.length > 0) throw violations[0];
    },
    async wait(what, condition, ms) {
      const over = () => violations.length > 0 || condition();
      await until(what, over, ms).catch((error: Error) => {
        const last = events.slice(-20).map((event) => JSON.stringify(event).slice(0, 250));
        throw new Error([error.message, 'last events:', ...last].join('\n'));
      });
      collector.check();
    },
    [Symbol.asyncDispose]: () => collector.refuse(),
  };
  await collector.listen();
  return collector;
}

const ENDLESS = {
  head: ['HTTP/1.1 200 OK\r\n', 'x-more: and more\r\n'.repeat(3_000)],
  body: ['HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"accepted":1,"more":"', 'x'.repeat(65_536)],
  chunks: ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n', `10000\r\n${'x'.repeat(65_536)}\r\n`],
} as const;

/** Writes as fast as the client reads, until it closes the connection. */
function answerForEver({ socket }: http.ServerResponse, fault: Fault & { kind: 'endless' }): void {
  if (!socket) return;
  const [beginning, more] = ENDLESS[fault.where];
  socket.once('close', () => {
    fault.ended += 1;
    fault.mostBytes = Math.max(fault.mostBytes, socket.bytesWritten);
  });
  socket.on('error', () => socket.destroy());
  const write = (text: string): void => {
    if (socket.destroyed) return;
    if (socket.write(text)) setImmediate(write, more);
    else socket.once('drain', () => write(more));
  };
  write(beginning);
}

interface Batch {
  readonly source: string;
  readonly epoch: string;
  readonly first_seq: number;
  readonly events: readonly Record<string, unknown>[];
}

type Leniency = Pick<Collector, 'anyTime' | 'anyStanza'> & Required<Pick<CollectorOptions, 'anyBody'>>;

/** Returns a batch that follows the protocol; throws what is wrong otherwise. */
function readBatch(request: http.IncomingMessage, payload: Buffer, options: Leniency): Batch {
  assert.equal(request.method, 'POST');
  assert.equal(request.url, '/v1/events');
  assert.match(request.headers['content-type'] ?? '', /^application\/json\b/);
  const text = new TextDecoder('utf-8', { fatal: true }).decode(payload);
  const batch = JSON.parse(text) as Batch;
  assertValid('tap-protocol', batch);
  assert.deepEqual(Object.keys(batch).sort(), ['epoch', 'events', 'first_seq', 'source']);
  assert.ok(typeof batch.source === 'string' && batch.source.length >= 1 && batch.source.length <= 256);
  assert.match(batch.epoch, /^.+$/);
  assert.ok(Number.isSafeInteger(batch.first_seq) && batch.first_seq >= 1, `first_seq ${batch.first_seq}`);
  assert.ok(Array.isArray(batch.events) && batch.events.length >= 1 && batch.events.length <= maxEvents);
  const most = batch.events.length === 1 ? tapBytes : maxBytes;
  assert.ok(payload.length <= most, `a batch of ${payload.length} bytes`);
  for (const event of batch.events) checkEvent(event, options);
  return batch;
}

const presenceFields = ['at', 'host', 'jid', 'kind', 'present'];
const messageFields = ['at', 'body', 'from', 'host', 'kind', 'to', 'type'];

function checkEvent(event: Record<string, unknown>, { anyTime, anyStanza, anyBody }: Leniency): void {
  const fields = Object.keys(event).sort();
  assert.ok(Number.isSafeInteger(event.at), `at ${event.at}`);
  if (!anyTime) assert.ok(Math.abs(Date.now() - Number(event.at)) < 600_000, `at ${event.at} is not now`);
  if (event.kind === 'presence') {
    assert.deepEqual(fields, 'sessions' in event ? [...presenceFields, 'sessions'] : presenceFields);
    checkFullJid(event.jid, event.host);
    assert.equal(typeof event.present, 'boolean');
    if ('sessions' in event) assert.ok(Number.isSafeInteger(event.sessions) && Number(event.sessions) >= 0);
    return;
  }
  assert.equal(event.kind, 'message');
  assert.deepEqual(
    fields.filter((field) => field !== 'stanza' && field !== 'stanza_id'),
    messageFields,
  );
  checkSender(event.from, event.host);
  assert.ok(event.type === 'chat' || event.type === 'groupchat', `type ${event.type}`);
  assert.ok(typeof event.to === 'string' && event.to !== '');
  assert.equal(typeof event.body, 'string');
  if (!('stanza' in event)) {
    if (anyStanza) return;
    const stanza = `<message><body>${escapeXML(String(event.body))}</body></message>`;
    assert.ok(Buffer.byteLength(JSON.stringify({ ...event, stanza })) > maxEventBytes, 'no stanza');
    return;
  }
  const stanza = parse(String(event.stanza));
  assert.equal(stanza.getName(), 'message');
  const isBody = (child: Element) =>
    anyBody || (child.getNS() || 'jabber:client') === (stanza.getNS() || 'jabber:client');
  assert.equal(stanza.getChildren('body').find(isBody)?.getText(), event.body);
  assert.equal(stanza.attrs.id, event.stanza_id);
}

/** A message that no session sent has a bare JID. */
function checkSender(jid: unknown, host: unknown): void {
  checkFullJid(typeof jid === 'string' && !jid.includes('/') ? `${jid}/none` : jid, host);
}

function checkFullJid(jid: unknown, host: unknown): void {
  assert.ok(typeof jid === 'string' && typeof host === 'string');
  assert.match(jid, /^[^@/]+@[^@/]+\/./);
  assert.equal(jid.slice(jid.indexOf('@') + 1, jid.indexOf('/')), host);
}
