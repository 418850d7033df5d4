/** Runs a daemon in this process as `run` does, with signals that only it gets and its log in a file. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { readConfig } from '../../src/cli/configuration.ts';
import { runUntilStopped } from '../../src/cli/run.ts';
import { createLogger } from '../../src/ops/log.ts';
import type { Process } from './process.ts';

/** The interface of a daemon, in this process or in its own. */
export interface RunningDaemon extends Pick<Process, 'pid' | 'running' | 'output' | 'end'> {
  /** SIGHUP. */
  reload(): void;
}

export function runHere(configFile: string): RunningDaemon {
  const file = path.join(path.dirname(configFile), 'daemon.log');
  const again = () => readConfig({ config: configFile });
  const config = again();
  const fd = openSync(file, 'w');
  const log = createLogger(config.log, { fd, isTTY: false });
  const { promise: stop, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let asked = false;
  let reload = () => {};
  const signals = {
    stop,
    stopAsked: () => asked,
    onReload(listener: () => void) {
      reload = listener;
    },
  };
  let running = true;
  let logged: string | undefined;
  const output = () => logged ?? readFileSync(file, 'utf8');
  const ended = runUntilStopped({ config, again, log }, signals)
    .catch((error: unknown) => error)
    .then((error: unknown) => {
      running = false;
      logged = `${output()}${error === undefined ? '' : String(error)}`;
      closeSync(fd);
    });
  return {
    pid: process.pid,
    get running() {
      return running;
    },
    output,
    async end(signal) {
      if (signal === 'SIGKILL') throw new Error("a daemon in this process can't be killed");
      asked = true;
      resolve(signal);
      await ended;
    },
    reload: () => reload(),
  };
}
