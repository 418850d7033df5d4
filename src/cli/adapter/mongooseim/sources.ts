/** The Erlang modules of MongooseIM's adapter: its own, and those of ejabberd's that don't call ejabberd. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { ADAPTERS } from '../files.ts';

const OWN = path.join(ADAPTERS, 'mongooseim/src');
const SHARED = path.join(ADAPTERS, 'ejabberd/src');
/** ejabberd's modules in its folder. */
const EJABBERDS = new Set([
  'mod_event_pusher.erl',
  'event_pusher_on_ejabberd.erl',
  'event_pusher_on_ejabberd_message.erl',
  'event_pusher_census.erl',
]);

/** Their files, each behaviour before the modules that implement it. */
export function erlangSources(): string[] {
  const shared = readdirSync(SHARED).filter((name) => name.endsWith('.erl') && !EJABBERDS.has(name));
  const own = readdirSync(OWN).filter((name) => name.endsWith('.erl'));
  return [...shared.sort().map((name) => path.join(SHARED, name)), ...own.sort().map((name) => path.join(OWN, name))];
}
