/** Sessions that live in the stand-in for MongooseIM, as a test drives them. */
import { atom, binary, type MongooseIm, map, raw, type Term } from './mongooseim.ts';

export interface Session {
  readonly jid: string;
  readonly bare: string;
  /** Its process, as Erlang writes it. */
  readonly pid: string;
  available(): Promise<void>;
  unavailable(): Promise<void>;
  /** @param body text, or the bytes of one that is no text */
  message(to: string, body: string | Buffer, type?: 'chat' | 'groupchat'): Promise<void>;
  /** Its process ends as the server ends it, such as `{shutdown,stream_end}`. */
  end(reason?: string): Promise<void>;
  /** Its process is killed: no hook runs. */
  kill(): Promise<void>;
  /** Resumed in a new process, here or on another node. */
  resume(on?: MongooseIm): Promise<Session>;
}

const LIVE = 'mongoose_live';

/** Opens a session of a full JID, which replaces one that is there; available unless told otherwise. */
export async function openSession(server: MongooseIm, jid: string, { available = true } = {}): Promise<Session> {
  const session = handle(server, jid, await server.call(LIVE, 'open', binary(jid), map({})));
  if (available) await session.available();
  return session;
}

function handle(server: MongooseIm, jid: string, pid: string): Session {
  const process = raw(`"${pid}"`);
  const call = async (name: string, ...args: Term[]) => void (await server.call(LIVE, name, process, ...args));
  return {
    jid,
    pid,
    bare: jid.replace(/\/.*/s, ''),
    available: () => call('available'),
    unavailable: () => call('unavailable'),
    message: (to, body, type = 'chat') => call('send', binary(to), binary(type), binary(body)),
    end: (reason = '{shutdown,stream_end}') => call('stop', raw(reason)),
    kill: () => call('stop', atom('killed')),
    async resume(on) {
      if (!on) return handle(server, jid, await server.call(LIVE, 'resume', process));
      const node = await server.call('erlang', 'node');
      return handle(on, jid, await on.call(LIVE, 'resume_from', raw(node), process));
    },
  };
}
