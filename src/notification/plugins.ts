/**
 * The plugins of one routing: loaded, started before their first call, and stopped after their last.
 *
 * Maintained invariants:
 * - Sections with the same plugin and options share one instance, which is started and stopped once.
 * - `stop` is called after all earlier calls have returned or timed out.
 */
import { isDeepStrictEqual } from 'node:util';
import { messageOf, PusherError } from '../errors.ts';
import { type Log, SILENT } from '../log.ts';
import { boundPlugin, DEFAULT_PLUGIN, pluginOf, type SnsPlugin, within } from './plugin.ts';
import { importPlugin } from './plugin-import.ts';

/** How long a module may take to load, and its `start` and `stop`, in milliseconds. */
const LOAD_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;

export interface Plugins {
  /**
   * Loads and starts a plugin.
   * @param plugin an object, or the path or package of a module, resolved from the configuration file
   * @throws PusherError PLUGIN_UNUSABLE
   */
  open(plugin: SnsPlugin | string, options?: Readonly<Record<string, unknown>>): Promise<SnsPlugin>;
  /** Stops all started plugins. */
  stop(): Promise<void>;
}

interface Opened {
  readonly given: SnsPlugin | string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly plugin: Promise<SnsPlugin>;
}

/** @param configFile absolute path of the file from which paths and packages are resolved */
export function createPlugins(configFile: string, log: Log): Plugins {
  const opened: Opened[] = [];
  const stops: (() => Promise<void>)[] = [];

  const start = async (given: SnsPlugin | string, options: Opened['options']): Promise<SnsPlugin> => {
    const name = nameOf(given);
    const shared = opened.some((other) => other.given === given);
    const functions =
      typeof given === 'string' ? await load(given, configFile, log, shared) : checked(given, configFile);
    const { counted, idle } = countCalls(functions);
    // Also after a failed start, which may have left something running.
    stops.push(async () => {
      await idle();
      try {
        await within(STOP_TIMEOUT_MS, 'stop() did not end', Promise.resolve(functions.stop?.()));
      } catch (error) {
        log.warn({ plugin: name, problem: messageOf(error) }, "the plugin's stop() failed");
      }
    });
    try {
      const context = { log, options: Object.freeze({ ...options }) };
      await within(LOAD_TIMEOUT_MS, 'start() did not end', Promise.resolve(functions.start?.(context)));
    } catch (error) {
      throw fault(shownAs(name, configFile), `start() failed: ${messageOf(error)}`, error);
    }
    return counted;
  };

  return {
    open(given, options = {}) {
      const same = opened.find((other) => other.given === given && isDeepStrictEqual(other.options, options));
      if (same) return same.plugin;
      const plugin = start(given, options);
      opened.push({ given, options, plugin });
      return plugin;
    },
    async stop() {
      await Promise.all(stops.splice(0).map((stop) => stop()));
    },
  };
}

/**
 * Loads a plugin without starting it.
 * @param name a path or a package, resolved from the configuration file, or {@link DEFAULT_PLUGIN}
 * @param shown what errors call it; by default the option of the configuration
 * @throws PusherError PLUGIN_UNUSABLE if it can't be found or loaded within 10 s, or has invalid exports
 */
export const loadPlugin = (name: string, configFile: string, shown = shownAs(name, configFile)): Promise<SnsPlugin> =>
  load(name, configFile, SILENT, false, shown);

/** @param apart whether another section with other options uses the same module already */
async function load(
  name: string,
  configFile: string,
  log: Log,
  apart: boolean,
  shown = shownAs(name, configFile),
): Promise<SnsPlugin> {
  if (name === DEFAULT_PLUGIN) return {};
  try {
    const bring = (anew: boolean) =>
      within(
        LOAD_TIMEOUT_MS,
        'it did not load, perhaps because of an await that never ends,',
        importPlugin(name, configFile, anew),
      );
    const found = await bring(apart);
    const { start, stop } = pluginOf(found.exports);
    // A plugin with `start` or `stop` has state: each instance gets its own copy of the module.
    const imported = (start || stop) && !found.fresh ? await bring(true) : found;
    if (imported.stale.length > 0)
      log.warn(
        { plugin: name, files: imported.stale },
        "files that plugins import have changed, but a reload can't load packages, or ES modules that CommonJS requires, again: restart the daemon",
      );
    return pluginOf(imported.exports);
  } catch (error) {
    throw fault(shown, whyOf(error), error);
  }
}

function checked(plugin: SnsPlugin, configFile: string): SnsPlugin {
  try {
    if ((typeof plugin !== 'object' && typeof plugin !== 'function') || Array.isArray(plugin))
      throw new Error('should be an object with functions, or a path');
    return isEmpty(plugin) ? {} : boundPlugin(plugin);
  } catch (error) {
    throw fault(shownAs(nameOf(plugin), configFile), messageOf(error), error);
  }
}

/** Whether it is `{}`. An instance of a class has no own keys either, but may be a plugin. */
function isEmpty(plugin: SnsPlugin): boolean {
  const prototype: unknown = Object.getPrototypeOf(plugin);
  return (prototype === Object.prototype || prototype === null) && Object.keys(plugin).length === 0;
}

const nameOf = (given: SnsPlugin | string): string => (typeof given === 'string' ? given : 'object');

/** Keeps an error about the exports; wraps any other as a failure to load. */
const whyOf = (error: unknown): string =>
  /^exports /.test(messageOf(error)) ? messageOf(error) : `can't be loaded: ${messageOf(error)}`;

const shownAs = (name: string, configFile: string): string => `plugin_module "${name}" of ${configFile}`;

const fault = (shown: string, why: string, cause: unknown): PusherError =>
  new PusherError('PLUGIN_UNUSABLE', `${shown}: ${why}`, cause);

/** The functions with a limit of 5 s each, and a promise for the end of all calls. */
function countCalls(plugin: SnsPlugin): { counted: SnsPlugin; idle: () => Promise<void> } {
  let underWay = 0;
  let done: (() => void) | undefined;
  const end = () => {
    underWay -= 1;
    if (underWay === 0) done?.();
  };
  const counting =
    (run: (...parameters: unknown[]) => unknown) =>
    (...parameters: unknown[]): unknown => {
      underWay += 1;
      let answer: unknown;
      try {
        answer = run(...parameters);
      } catch (error) {
        end();
        throw error;
      }
      if (typeof (answer as PromiseLike<unknown> | undefined)?.then !== 'function') {
        end();
        return answer;
      }
      return Promise.resolve(answer as PromiseLike<unknown>).finally(end);
    };
  // Only needed for plugins with `stop`.
  if (!plugin.stop) return { counted: plugin, idle: async () => {} };
  const counted = Object.fromEntries(
    Object.entries(plugin).map(([name, run]) => [name, counting(run as (...parameters: unknown[]) => unknown)]),
  );
  return {
    counted,
    async idle() {
      if (underWay === 0) return;
      const ended = new Promise<void>((resolve) => {
        done = resolve;
      });
      await within(STOP_TIMEOUT_MS, 'its calls did not end', ended).catch(() => {});
    },
  };
}
