/**
 * Drives the stand-in for MongooseIM in a first hour's system.
 *
 * Usage: node mongooseim.ts modules | login FULL_JID
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { binary } from '../support/mongooseim.ts';

const PORT = 5280;

/** Calls a function in the stand-in; returns its result as text. */
async function call(module: string, name: string, args: string): Promise<string> {
  const socket = net.connect(PORT, '127.0.0.1');
  await once(socket, 'connect');
  socket.write(`{0,${module},${name},${args}}.\n`);
  const [line] = (await once(createInterface({ input: socket }), 'line')) as [string];
  socket.end();
  const [, result] = /^0 ok (.*)$/.exec(line) ?? [];
  if (result === undefined) throw new Error(`${module}:${name}: ${line}`);
  return result;
}

/** Starts the module if the configuration has it, as MongooseIM does at its start. */
async function startModules(): Promise<void> {
  for (;;) {
    try {
      await call('erlang', 'node', '[]');
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') throw error;
      await sleep(200);
    }
  }
  const toml = readFileSync('/etc/mongooseim/mongooseim.toml', 'utf8');
  if (!/^\[modules\.mod_xmpp_event_pusher\]$/m.test(toml)) return;
  await call('mongoose_modules', 'ensure_started', `[${binary('localhost')},mod_xmpp_event_pusher,#{}]`);
}

const [, , action, jid = ''] = process.argv;
if (action === 'modules') await startModules();
else if (action === 'login') {
  const session = await call('mongoose_live', 'open', `[${binary(jid)},#{}]`);
  await call('mongoose_live', 'available', `["${session}"]`);
} else throw new Error(`usage: mongooseim.ts modules | login FULL_JID, not ${action}`);
