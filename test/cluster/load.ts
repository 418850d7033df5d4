/** XMPP servers that post to any daemon that accepts their batches, and a record of what SNS received. */
import { setTimeout as sleep } from 'node:timers/promises';
import { SECRET } from '../support/daemon.ts';
import type { StubEntry, StubRequest } from '../support/stub-sns.ts';

const BATCH = 20;
/** Users or rooms of each source, whose messages must stay in order. */
const USERS = 12;
const REQUEST_MS = 20_000;

export interface Server {
  readonly source: string;
  /** How many events are acknowledged. */
  acknowledged(): number;
  /** How often a batch was refused for now or got no answer. */
  putOff(): number;
  run(stopped: AbortSignal): Promise<void>;
}

/** A server that posts its batches in order to one of these addresses, or the next one on failure. */
export function createServer(
  source: string,
  addresses: () => readonly string[],
  pauseMs: number,
  type: 'chat' | 'groupchat' = 'chat',
): Server {
  let acknowledged = 0;
  let putOff = 0;
  let next = 0;
  return {
    source,
    acknowledged: () => acknowledged,
    putOff: () => putOff,
    async run(stopped) {
      while (!stopped.aborted) {
        const body = JSON.stringify({
          source,
          epoch: 'e',
          first_seq: acknowledged + 1,
          events: eventsOf(source, type, acknowledged),
        });
        // Like a load balancer: each batch goes to the next daemon.
        const all = addresses();
        const url = all[next++ % all.length] as string;
        const headers = { 'content-type': 'application/json', authorization: `Bearer ${SECRET}` };
        const request = { method: 'POST', headers, body, signal: AbortSignal.timeout(REQUEST_MS) };
        const taken = await fetch(url, request).then(
          async (response) => {
            await response.text();
            return response.ok;
          },
          () => false,
        );
        if (taken) acknowledged += BATCH;
        else putOff += 1;
        await sleep(taken ? pauseMs : 100);
      }
    },
  };
}

const eventsOf = (source: string, type: 'chat' | 'groupchat', from: number) =>
  Array.from({ length: BATCH }, (_, index) => {
    const seq = from + index + 1;
    // The user or room whose messages stay in order.
    const key = `${source.replaceAll(/\W/g, '')}${seq % USERS}@localhost`;
    return {
      kind: 'message',
      type,
      at: Date.now(),
      host: 'localhost',
      from: type === 'chat' ? `${key}/x` : 'bob@localhost/x',
      to: type === 'chat' ? 'bob@localhost' : key,
      body: `${seq}`,
    };
  });

/** What SNS accepted, in order. */
export class Book {
  /** How often each event was accepted. */
  readonly #times = new Map<string, number>();
  readonly #highest = new Map<string, number>();
  readonly problems: string[] = [];
  repeated = 0;

  readonly accepted = ({ attributes }: StubEntry, _request: StubRequest): void => {
    const id = attributes.get('event_id') ?? '';
    const times = this.#times.get(id) ?? 0;
    this.#times.set(id, times + 1);
    if (times > 0) {
      this.repeated += 1;
      return;
    }
    const [, source = '', seq = ''] = /^(.*)\/e\/(\d+)$/.exec(id) ?? [];
    const key = `${source} ${Number(seq) % USERS}`;
    const highest = this.#highest.get(key) ?? 0;
    if (Number(seq) < highest) this.problems.push(`${id} came after ${highest}`);
    this.#highest.set(key, Math.max(highest, Number(seq)));
  };

  get size(): number {
    return this.#times.size;
  }

  /** Acknowledged events that SNS does not have. */
  missing(servers: readonly Server[]): string[] {
    return servers.flatMap(({ source, acknowledged }) =>
      Array.from({ length: acknowledged() }, (_, index) => `${source}/e/${index + 1}`).filter(
        (id) => !this.#times.has(id),
      ),
    );
  }
}
