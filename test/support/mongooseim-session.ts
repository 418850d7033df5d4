/** Sessions in the stand-in for MongooseIM, controlled by a test. */
import { atom, binary, type MongooseIm, map, raw, type Term } from './mongooseim.ts';

export interface Session {
  readonly jid: string;
  readonly bare: string;
  /** Its process, in Erlang's notation. */
  readonly pid: string;
  available(): Promise<void>;
  unavailable(): Promise<void>;
  /** @param body text, or bytes that are not valid UTF-8 */
  message(to: string, body: string | Buffer, type?: 'chat' | 'groupchat'): Promise<void>;
  /** Ends its process with the server's reason, such as `{shutdown,stream_end}`. */
  end(reason?: string): Promise<void>;
  /** Kills its process: no hook runs. */
  kill(): Promise<void>;
  /** Resumes it in a new process, here or on another node. */
  resume(on?: MongooseIm): Promise<Session>;
}

const LIVE = 'mongoose_live';

/** Opens a session of a full JID, replacing an existing one; available by default. */
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
