/**
 * The SNS endpoint of the benchmarks, a process of its own: counts what it is sent and answers as SNS does, and parses
 * no more than that takes, so that it is not what is measured.
 *
 * `GET /stats` answers {@link StubStats}; `POST /reset` forgets the latencies. Prints its port when it listens.
 */
import net, { type AddressInfo } from 'node:net';
import { publishAnswer, publishBatchAnswer } from '../test/support/stub-sns.ts';
import { clock, quantile } from './measure.ts';

export interface StubStats {
  /** Notifications taken. */
  readonly accepted: number;
  readonly requests: number;
  /** From the time written in a message to here, in milliseconds; only messages that hold one. */
  readonly latency: { readonly count: number; readonly p50: number; readonly p99: number; readonly max: number };
}

/** How a load writes the time into a message: `t=1763820191120.123 `, which a form carries as `t%3D…%20`. */
const STAMP = /t%3D(\d+\.\d+)%20/g;

let accepted = 0;
let requests = 0;
let latencies: number[] = [];

/** Ids of a batch's entries, in order. */
function idsOf(form: string): string[] {
  const ids: string[] = [];
  for (let at = form.indexOf('.Id='); at >= 0; at = form.indexOf('.Id=', at + 4)) {
    const end = form.indexOf('&', at);
    ids.push(form.slice(at + 4, end < 0 ? undefined : end));
  }
  return ids;
}

function take(form: string): string {
  requests += 1;
  const now = clock();
  for (const match of form.matchAll(STAMP)) latencies.push(now - Number(match[1]));
  if (form.startsWith('Action=Publish&') || form.includes('&Action=Publish&')) {
    accepted += 1;
    return publishAnswer;
  }
  const ids = idsOf(form);
  accepted += ids.length;
  return publishBatchAnswer(ids.map((id) => ({ id })));
}

function stats(): StubStats {
  const sorted = Float64Array.from(latencies).sort();
  const at = (p: number) => quantile(sorted, p);
  return { accepted, requests, latency: { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) } };
}

function answer(requestLine: string, body: Buffer): string {
  if (requestLine.startsWith('GET ')) return reply('application/json', JSON.stringify(stats()));
  if (!requestLine.startsWith('POST /reset ')) return reply('text/xml', take(body.toString('latin1')));
  latencies = [];
  return reply('application/json', '{}');
}

const reply = (type: string, text: string): string =>
  `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;

// Not node:http, which takes as much of the machine for a request as all that is measured does.
const server = net.createServer((socket) => {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (data: Buffer) => {
    rest = rest.length > 0 ? Buffer.concat([rest, data]) : data;
    for (let head = rest.indexOf('\r\n\r\n'); head >= 0; head = rest.indexOf('\r\n\r\n')) {
      const headers = rest.toString('latin1', 0, head);
      const begin = head + 4;
      const end = begin + Number(/\r\ncontent-length: *(\d+)/i.exec(headers)?.[1] ?? 0);
      if (rest.length < end) return;
      socket.write(answer(headers, rest.subarray(begin, end)));
      rest = rest.subarray(end);
    }
  });
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
