/**
 * The SNS endpoint of the benchmarks, a process of its own: counts what it is sent and answers as SNS does, and parses
 * no more than that takes, so that it is not what is measured.
 *
 * `GET /stats` answers {@link StubStats}; `POST /reset` forgets the latencies. Prints its port when it listens.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
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

const server = http.createServer((request, response) => {
  const reply = (type: string, text: string) =>
    response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(text) }).end(text);
  if (request.method === 'GET') return void reply('application/json', JSON.stringify(stats()));
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    if (request.url !== '/reset') return void reply('text/xml', take(Buffer.concat(chunks).toString('latin1')));
    latencies = [];
    reply('application/json', '{}');
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
