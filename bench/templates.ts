/** The cost of the configuration's additions: translates an event without them, and with more and more of them. */
import type { XmppEvent } from '../src/event.ts';
import { type AdditionOptions, compileAdditions } from '../src/notification/additions.ts';
import { type Route, translate } from '../src/notification/notification.ts';
import { type Figure, median, type Result, type Size } from './measure.ts';

const EVENTS = 20_000;

const OPTIONS: Readonly<Record<string, AdditionOptions>> = {
  none: { attributes: [] },
  'event_id and timestamp': { attributes: ['event_id', 'timestamp'] },
  'six templates': {
    attributes: [],
    message_attributes: {
      type: '{type}',
      domain: '{to.domain}',
      room: '{room}',
      env: 'prod',
      'ce-id': '{event_id}',
      size: { number: '{body.length}' },
    },
  },
  'three fields of the body': { attributes: [], body_fields: ['type', 'event_id', 'timestamp'] },
};

const events = Array.from({ length: EVENTS }, (_, n): XmppEvent => {
  const type = n % 2 === 0 ? 'chat' : 'groupchat';
  const to = type === 'chat' ? `user${(n * 31) % 1_000}@example.org` : 'tea@conference.example.org';
  const body = `message ${n}: the quick brown fox jumps over the lazy dog`;
  return {
    kind: 'message',
    id: `node/e/${n}`,
    at: n,
    host: 'example.org',
    type,
    from: `user${n % 1_000}@example.org/x`,
    to,
    body,
  };
});

export async function templates({ seconds }: Size): Promise<Result> {
  const routes = Object.entries(OPTIONS).map(([name, options]) => ({
    name,
    route: routeWith(options),
    times: [] as number[],
  }));
  // In turn, so that slow phases of the machine affect all of them.
  const rounds = Math.max(20, Math.round(seconds * 4));
  for (let round = 0; round < rounds; round++) for (const { route, times } of routes) times.push(microseconds(route));
  const [without, ...others] = routes.map(({ name, times }) => ({ name, cost: median(times) }));
  return {
    benchmark: 'templates',
    figures: [
      { what: 'an event without additions', value: without?.cost ?? 0, unit: 'µs/event' },
      ...others.map(({ name, cost }): Figure => {
        const target = name === 'six templates' ? { target: { atMost: 2 } } : {};
        return { what: `more with ${name}`, value: cost - (without?.cost ?? 0), unit: 'µs/event', ...target };
      }),
    ],
  };
}

const routeWith = (options: AdditionOptions): Route => ({
  topics: { pm: 'pm', muc: 'muc' },
  plugin: {},
  presence: 'user',
  additions: compileAdditions(options),
  maxBytes: () => 262_144,
});

/** Mean CPU time per event; elapsed time would include other processes. */
function microseconds(route: Route): number {
  const begin = process.cpuUsage();
  for (const event of events) translate(event, route);
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / EVENTS;
}
