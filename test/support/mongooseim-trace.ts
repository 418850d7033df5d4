/**
 * Recordings of the hooks that our module sees in MongooseIM 6.8, and the events that a correct adapter makes of them.
 *
 * A file has one JSON object per line: `scenario` begins one, `step` says what clients or the admin do next, `hook` is
 * a call, `expect` ends the scenario with the expected events. See the README beside the recordings.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'ltx';
import { atom, binary, list, type MongooseIm, map, raw, type Term, tuple } from './mongooseim.ts';

const FOLDER = join(import.meta.dirname, 'mongooseim/traces');

/** One call of a hook, or in parentheses something that is not a hook. */
export interface Call {
  readonly hook: string;
  readonly pid?: string;
  readonly by?: string;
  readonly prio?: number;
  readonly jid?: string;
  readonly our_state?: string;
  readonly sets?: string;
  readonly available?: number | 'no';
  readonly reason?: string;
  readonly why?: string;
  readonly status?: string;
  readonly info?: string;
  readonly origin_sid?: boolean;
  readonly from?: string;
  readonly to?: string;
  readonly type?: string;
  readonly id?: string;
  readonly body?: string;
  readonly xml?: string;
  readonly found?: readonly string[];
  readonly listeners?: number;
}

export interface Expected {
  readonly kind: 'presence' | 'message';
  readonly jid?: string;
  readonly present?: boolean;
  readonly sessions?: number;
  readonly type?: string;
  readonly from?: string;
  readonly to?: string;
  readonly body?: string;
  readonly stanza_id?: string;
}

export interface Step {
  readonly text: string;
  readonly calls: readonly Call[];
}

export interface Scenario {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly expect: readonly Expected[];
  readonly anyOrder: boolean;
}

/** Reads the scenarios of a recording, such as `takeover`. */
export function readTrace(name: string): Scenario[] {
  const lines = readFileSync(join(FOLDER, `${name}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n');
  const scenarios: { name: string; steps: { text: string; calls: Call[] }[]; expect: Expected[]; anyOrder: boolean }[] =
    [];
  for (const line of lines) {
    const entry = JSON.parse(line) as Call & {
      scenario?: string;
      step?: string;
      expect?: Expected[];
      any_order?: boolean;
    };
    const current = scenarios.at(-1);
    if (entry.scenario !== undefined)
      scenarios.push({ name: entry.scenario, steps: [{ text: '', calls: [] }], expect: [], anyOrder: false });
    else if (entry.step !== undefined) current!.steps.push({ text: entry.step, calls: [] });
    else if (entry.expect !== undefined) Object.assign(current!, { expect: entry.expect, anyOrder: !!entry.any_order });
    // Calls from a client that ended late belong to no scenario.
    else current!.steps.at(-1)!.calls.push(entry);
  }
  return scenarios;
}

const ENDS = new Set(['user_terminate', 'unset_presence', 'sm_remove_connection', '(DOWN)']);

/** Other orders of a step's calls that the server may produce. */
export const ORDERS = {
  'as recorded': (calls: readonly Call[]) => calls,
  /** Processes that end in this step do so after everything else. */
  'ends late': (calls: readonly Call[]) => {
    const ending = endingOf(calls);
    const isEnd = (call: Call) => ENDS.has(call.hook) && ending.has(call.pid ?? '');
    return [...calls.filter((call) => !isEnd(call)), ...calls.filter(isEnd)];
  },
  /** A process's end runs at once, before anything else; only its death is noticed later. */
  'ends at once': (calls: readonly Call[]) => {
    const ending = endingOf(calls);
    const isRest = ({ hook, pid }: Call) => ending.has(pid ?? '') && ENDS.has(hook) && hook !== 'user_terminate';
    return calls.flatMap((call) => {
      if (call.hook === '(DOWN)' || !isRest(call)) {
        if (call.hook !== 'user_terminate') return [call];
        return [call, ...calls.filter((one) => isRest(one) && one.hook !== '(DOWN)' && one.pid === call.pid)];
      }
      return calls.some((one) => one.hook === 'user_terminate' && one.pid === call.pid) ? [] : [call];
    });
  },
  /** If several processes end, the last one ends first. */
  'ends reversed': (calls: readonly Call[]) => {
    const ending = [...endingOf(calls)].reverse();
    const isEnd = (call: Call) => ENDS.has(call.hook) && ending.includes(call.pid ?? '');
    const blocks = ending.flatMap((pid) => calls.filter((call) => isEnd(call) && call.pid === pid));
    return [...calls.filter((call) => !isEnd(call)), ...blocks];
  },
} as const;

export type Order = keyof typeof ORDERS;

const endingOf = (calls: readonly Call[]) =>
  new Set(calls.flatMap(({ hook, pid }) => (hook === 'user_terminate' && pid !== undefined ? [pid] : [])));

/**
 * Whether another order of a step's ends is possible: several end, or one ends as another one of its address begins.
 */
export function isFree(step: Step, order: Order, anyOrder: boolean): boolean {
  const ending = endingOf(step.calls);
  const begins = step.calls.some(({ hook }) => hook === 'sm_register_connection');
  return order === 'ends reversed' ? anyOrder && ending.size > 1 : begins && ending.size > 0;
}

/** Plays calls in the stand-in, each in its recorded process. */
export function createPlayer(server: MongooseIm) {
  /** Which process had our state last. */
  const holders = new Map<string, string>();

  const call = (call: Call, extra: Record<string, Term | undefined> = {}) =>
    server.call(
      'mongoose_trace',
      'call',
      label(call),
      map({
        name: atom(call.hook),
        by: call.by === undefined ? undefined : atom('true'),
        jid: call.jid === undefined ? undefined : binary(call.jid),
        available: available(call),
        origin_sid: atom(String(call.origin_sid ?? false)),
        ...extra,
      }),
    );

  async function register(line: Call, later: readonly Call[]): Promise<void> {
    const adopted = later.find(({ hook, pid }) => hook === '(async_with_state)' && pid === line.pid);
    const from = line.by === undefined ? holderOf(adopted?.our_state) : undefined;
    const isSession = line.info?.includes('conn') ?? false;
    const info = map({ auth_module: atom('standin'), ...(isSession ? { conn: atom('c2s') } : {}) });
    await server.call(
      'mongoose_trace',
      'register',
      label(line),
      from === undefined ? atom('none') : binary(from),
      map({ jid: binary(line.jid!), info, by: line.by === undefined ? undefined : atom('true') }),
    );
    if (adopted?.our_state && adopted.our_state !== 'none') holders.set(adopted.our_state, line.pid!);
  }

  const holderOf = (state: string | undefined) => (state === undefined ? undefined : holders.get(state));

  /** Places sessions that began, ended or moved while the module was stopped. */
  async function placeUnseen(later: readonly Call[], before: ReadonlySet<string>): Promise<void> {
    const found = new Set(later.find(({ hook }) => hook === '(look_around)')?.found ?? []);
    const adopted = later.filter(({ hook, why }) => hook === '(async_with_state)' && why === 'module start');
    for (const line of adopted.filter(({ pid }) => !before.has(pid!))) {
      const from = holderOf(line.our_state);
      const info = map({ conn: atom('c2s') });
      const state = from === undefined ? atom('none') : binary(from);
      await server.call('mongoose_trace', 'place', label(line), state, binary(line.jid!), info);
      alive.add(line.pid!);
    }
    for (const line of adopted)
      await server.call('mongoose_trace', 'prepare', label(line), map({ available: available(line) }));
    for (const pid of before) {
      if (found.has(pid)) continue;
      await server.call('mongoose_trace', 'vanish', binary(pid));
      alive.delete(pid);
    }
  }

  /** The module asks each session, so the sessions must be able to answer meanwhile. */
  async function startAmongSessions(): Promise<void> {
    let started = false;
    const starting = server.startModule().finally(() => {
      started = true;
    });
    while (!started) for (const pid of alive) await server.call('mongoose_trace', 'casts', binary(pid), map({}));
    await starting;
  }

  const alive = new Set<string>();

  /** @param later the following lines of the recording */
  async function play(line: Call, later: readonly Call[]): Promise<void> {
    if (line.sets?.startsWith('ref')) holders.set(line.sets, line.pid!);
    switch (line.hook) {
      case 'sm_register_connection':
        if (line.by === undefined) alive.add(line.pid!);
        return register(line, later);
      case '(async_with_state)':
        await server.call('mongoose_trace', 'casts', label(line), map({ available: available(line) }));
        return;
      case '(DOWN)':
        alive.delete(line.pid!);
        await server.call('mongoose_trace', 'down', label(line), reason(line.reason!));
        return;
      case '(module stop)': {
        const { listeners } = later.find(({ hook }) => hook === '(our process terminates)')!;
        if (listeners === 0) await server.call('mongoose_standin', 'stop_listeners');
        return server.stopModule();
      }
      case '(module start)':
        await placeUnseen(later, alive);
        return startAmongSessions();
      case '(look_around)':
      case '(our process terminates)':
        return;
      case 'sm_remove_connection':
        if (line.by === undefined) await server.call('mongoose_trace', 'close', label(line));
        return;
      case 'user_send_message': {
        // Only its beginning: the whole call follows at priority 95.
        if (line.prio === 5 && line.to === undefined) return;
        const stanza = tuple(binary(line.from!), binary(line.to!), node(parse(line.xml!) as unknown as XmlNode));
        await call(line, { stanza, up_to: line.prio === 5 ? raw('10') : undefined });
        return;
      }
      default:
        await call(line, {
          reason: line.reason === undefined ? undefined : reason(line.reason),
          status: line.status === undefined ? undefined : binary(line.status),
        });
    }
  }

  /** A restarted server has no processes. */
  function forget(): void {
    alive.clear();
    holders.clear();
  }

  return { play, forget };
}

const label = ({ pid, by }: Call) => binary(pid ?? by ?? '');

const available = ({ available }: Call) =>
  available === undefined ? undefined : raw(available === 'no' ? 'undefined' : String(available));

/** A printed term, with its non-constant parts replaced by atoms. */
const reason = (text: string) => raw(text.replaceAll(/\bP\d+\b/g, 'a_process').replaceAll(/#\w+/g, 'something'));

interface XmlNode {
  readonly name: string;
  readonly attrs: Readonly<Record<string, string>>;
  readonly children: readonly (XmlNode | string)[];
}

function node(xml: XmlNode | string): Term {
  if (typeof xml === 'string') return tuple(atom('xmlcdata'), binary(xml));
  return tuple(atom('xmlel'), binary(xml.name), attributes(xml.attrs), list(xml.children.map(node)));
}

const attributes = (attrs: Readonly<Record<string, string>>) =>
  list(Object.entries(attrs).map(([name, value]) => tuple(binary(name), binary(value))));
