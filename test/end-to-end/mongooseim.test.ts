/**
 * MongooseIM's adapter on its stand-in: people come and go while the daemon, the adapter's process and the server's
 * virtual machine are killed in turn.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { atom, type MongooseIm, raw, startMongooseIm } from '../support/mongooseim.ts';
import { openSession, type Session } from '../support/mongooseim-session.ts';
import { until } from '../support/process.ts';
import { churnAt, type Guest, type Venue } from './churn.ts';

const PROCESS = 'mod_xmpp_event_pusher_localhost';

/** Ways for a session to end; some sessions are resumed before. */
const ENDS = ['{shutdown,stream_end}', '{shutdown,socket_closed}', '{shutdown,mod_stream_management}', 'killed'];

function venue(server: MongooseIm): Venue {
  let run = 0;
  let busy = 0;
  /** Closed before a kill, until all open calls have returned and count as done. */
  let closed: Promise<void> | undefined;
  let kills = 0;

  async function whenOpen<T>(action: () => Promise<T>): Promise<T> {
    while (closed) await closed;
    busy += 1;
    try {
      return await action();
    } finally {
      busy -= 1;
    }
  }

  function guest(first: Session, born: number): Guest {
    let session = first;
    const isGone = () => run !== born;
    return {
      message: (to, body) =>
        whenOpen(async () => {
          if (isGone()) return false;
          await session.message(to, body);
          return true;
        }),
      leave: () =>
        whenOpen(async () => {
          if (isGone()) return;
          if (Math.random() < 0.2) session = await session.resume();
          await session.end(ENDS[Math.floor(Math.random() * ENDS.length)]);
        }),
    };
  }

  return {
    connect: (user, resource) =>
      whenOpen(async () => guest(await openSession(server, `${user}@localhost/${resource}`), run)),
    async kill() {
      const gate = Promise.withResolvers<void>();
      closed = gate.promise;
      await until('what is under way', () => busy === 0);
      await committed(server);
      kills += 1;
      if (kills % 2 === 1) {
        const pid = await server.call('erlang', 'whereis', atom(PROCESS));
        await server.call('mongoose_standin', 'kill', raw(`"${pid}"`));
        await until('the process to be back', async () => {
          const now = await server.call('erlang', 'whereis', atom(PROCESS));
          return now !== pid && now !== 'undefined';
        });
      } else {
        await server.kill();
        run += 1;
        await server.start();
      }
      closed = undefined;
      gate.resolve();
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/**
 * Waits until the hooks' events are on disk: they gather for at most 50 ms, and the process answers after earlier work.
 */
async function committed(server: MongooseIm): Promise<void> {
  for (let round = 0; round < 3; round++) {
    await sleep(100);
    await server.call('sys', 'get_state', atom(PROCESS));
  }
}

churnAt('MongooseIM (a stand-in)', async (options) => venue(await startMongooseIm(options)));
