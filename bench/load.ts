/**
 * The load of the benchmarks, a process of its own: adapters of several sources, each with one open batch, post
 * presence, private and group messages of 1,000 users.
 *
 * With a rate the load is open-loop: batches are due at fixed times whether or not the daemon keeps up, and a message
 * carries its due time. Prints {@link LoadReport} at the end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'undici';
import { clock } from './measure.ts';

export interface LoadOptions {
  readonly tapUrl: string;
  readonly secret: string;
  /** Events per POST. */
  readonly batch: number;
  /** Events per second; 0: maximum speed. */
  readonly rate: number;
  /** Maximum number of events. */
  readonly events: number;
  readonly seconds: number;
  /** How many adapters post in parallel. */
  readonly sources: number;
  /** How many virtual hosts they use: example.org, h1.example.org and so on. Default: 1. */
  readonly hosts?: number;
  /** Distinguishes the events of different loads. */
  readonly epoch: string;
}

export interface LoadReport {
  readonly acknowledged: number;
  readonly seconds: number;
  /** How late the last batch was sent, in milliseconds; open-loop only. */
  readonly behindMs: number;
  readonly refused: number;
}

const USERS = 1_000;
const ROOMS = 200;
const WORDS = 'the quick brown fox jumps over the lazy dog and then asks where its dinner is';

/** A pseudo-random number that depends only on `n`, so that each run has the same events. */
const scatter = (n: number): number => Math.imul(n ^ (n >>> 15), 0x9e3779b1) >>> 0;

/** Event number `n`: of four events one is a presence, two are private messages, one is a group message. */
function eventOf(n: number, due: number, hosts: number): unknown {
  const chance = scatter(n);
  const which = n % hosts;
  const host = which === 0 ? 'example.org' : `h${which}.example.org`;
  const user = `user${chance % USERS}@${host}`;
  const from = `${user}/phone`;
  const common = { at: Math.floor(due), host };
  if (n % 4 === 0) {
    const present = Math.floor(n / USERS) % 2 === 0;
    return { kind: 'presence', ...common, jid: from, present, sessions: present ? 1 : 0 };
  }
  const type = n % 4 === 3 ? 'groupchat' : 'chat';
  const to =
    type === 'chat' ? `user${(chance >>> 12) % USERS}@example.org` : `room${(chance >>> 12) % ROOMS}@rooms.example.org`;
  const body = `t=${due.toFixed(3)} ${WORDS.slice(0, 20 + (n % 57))}`;
  const stanza = `<message xmlns="jabber:client" type="${type}" id="m${n}" from="${from}" to="${to}"><body>${body}</body></message>`;
  return { kind: 'message', ...common, type, from, to, body, stanza_id: `m${n}`, stanza };
}

/** One adapter: posts its batches one after another until the time is over or all events are sent. */
async function adapter(options: LoadOptions, index: number, report: { acknowledged: number; refused: number }) {
  const { tapUrl, secret, batch, rate, sources, seconds, epoch, hosts = 1 } = options;
  const url = new URL(tapUrl);
  const client = new Client(url.origin, { headersTimeout: 60_000 });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${secret}` };
  const every = rate > 0 ? (batch * sources * 1_000) / rate : 0;
  const begin = clock();
  const share = Math.floor(options.events / sources);
  let behindMs = 0;
  for (let turn = 0; turn * batch < share; turn++) {
    const scheduled = begin + every * (turn + index / sources);
    const early = scheduled - clock();
    if (every > 0 && early > 0) await sleep(early);
    const now = clock();
    if (now - begin > seconds * 1_000) break;
    behindMs = every > 0 ? now - scheduled : 0;
    const due = every > 0 ? scheduled : now;
    const size = Math.min(batch, share - turn * batch);
    const first = (turn * sources + index) * batch;
    const body = JSON.stringify({
      source: `bench@node${index}`,
      epoch,
      first_seq: turn * batch + 1,
      events: Array.from({ length: size }, (_, offset) => eventOf(first + offset, due, hosts)),
    });
    for (;;) {
      const answer = await client.request({ method: 'POST', path: url.pathname, headers, body });
      await answer.body.dump();
      if (answer.statusCode === 200) break;
      report.refused += 1;
      await sleep(100);
    }
    report.acknowledged += size;
  }
  await client.close();
  return behindMs;
}

const options = JSON.parse(process.argv[2] ?? '{}') as LoadOptions;
const report = { acknowledged: 0, refused: 0 };
const begin = clock();
const late = await Promise.all(Array.from({ length: options.sources }, (_, index) => adapter(options, index, report)));
const whole: LoadReport = { ...report, seconds: (clock() - begin) / 1_000, behindMs: Math.max(...late) };
process.stdout.write(`${JSON.stringify(whole)}\n`);
