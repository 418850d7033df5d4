/**
 * Child processes of the tests: started, watched, and stopped by pid.
 *
 * None outlives the test run: when this process exits, it kills those still running, and if it is killed, its guard
 * does.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { guardEnded, guardStarted } from './guard.ts';

export interface Process {
  readonly pid: number;
  readonly running: boolean;
  /** Output on stdout and stderr so far. */
  output(): string;
  /** Writes to its standard input, if that is a pipe. */
  type(text: string): void;
  /** Closes its standard input, if that is a pipe. */
  endInput(): void;
  /** Sends a signal and waits for the end. Does nothing after the end. */
  end(signal: 'SIGTERM' | 'SIGKILL' | 'SIGINT'): Promise<void>;
  /** Settles with its exit code, or null if a signal ended it. */
  readonly exited: Promise<number | null>;
}

export interface LaunchOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  uid?: number | undefined;
  gid?: number | undefined;
  stdin?: 'ignore' | 'pipe';
  /** File descriptor for its standard output, which is then not part of `output`. */
  stdout?: number | undefined;
}

const alive = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

export async function launch(
  command: string,
  args: string[],
  { stdin = 'ignore', stdout, ...options }: LaunchOptions = {},
): Promise<Process> {
  const child = spawn(command, args, { ...options, stdio: [stdin, stdout ?? 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', () => child.pid !== undefined && guardEnded(child.pid));
    child.once('close', (code) => {
      alive.delete(child);
      resolve(code);
    });
  });
  // Registered at once, so that it is killed if this process ends now.
  alive.add(child);
  if (child.pid !== undefined) guardStarted(child.pid);
  await once(child, 'spawn').catch((error: Error) => {
    alive.delete(child);
    throw error;
  });
  const running = () => child.exitCode === null && child.signalCode === null;
  return {
    pid: child.pid!,
    get running() {
      return running();
    },
    output: () => output,
    type: (text) => void child.stdin?.write(text),
    endInput: () => void child.stdin?.end(),
    async end(signal) {
      if (running()) child.kill(signal);
      await exited;
    },
    exited,
  };
}

/**
 * Polls until the condition holds; an exception counts as not holding. Rejects with `what` after `ms`. Polls less often
 * the longer it takes, so that a test that waits for a server leaves it the processor.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 60_000,
  pauseMs = 10,
): Promise<void> {
  const begun = Date.now();
  let cause: unknown;
  for (;;) {
    try {
      if (await condition()) return;
    } catch (error) {
      cause = error;
    }
    const waited = Date.now() - begun;
    if (waited > ms) throw new Error(`waited ${ms} ms in vain: ${what}`, { cause });
    await sleep(Math.max(pauseMs, Math.min(waited / 10, 50)));
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const settle = (open: boolean) => {
      socket.destroy();
      resolve(open);
    };
    socket.once('connect', () => settle(true)).once('error', () => settle(false));
  });
}

/** Waits until the process accepts connections on each port; rejects with its output if it ends first. */
export async function untilListening(child: Process, ports: readonly number[], ms = 60_000): Promise<void> {
  const open = async () => (await Promise.all(ports.map(accepts))).every(Boolean);
  await until(`ports ${ports.join(', ')}`, async () => !child.running || (await open()), ms).catch((error: Error) => {
    throw new Error(`${error.message}\n${child.output()}`);
  });
  if (!child.running) throw new Error(`ended before it listened:\n${child.output()}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Ports within our range that `fetch`, like browsers, refuses (https://fetch.spec.whatwg.org/#port-blocking). */
const REFUSED = [10_080];
/** From below the kernel's ephemeral range (32768 and up on Linux), in blocks. */
const FIRST = 10_000;
const BLOCK = 50;
const BLOCKS = 440;

/** This process's ports that are not given yet, and what holds its blocks. */
let ports: number[] = [];
const holders: net.Server[] = [];

/**
 * Takes a block of ports for this process alone, as long as it runs, by listening on the first one. Without that another
 * process could be given a port between the check and the use, or while a server restarts.
 */
async function takeBlock(): Promise<void> {
  const first = FIRST + BLOCK * Math.floor(Math.random() * BLOCKS);
  const holder = net.createServer().unref();
  const listening = await new Promise<boolean>((resolve) => {
    holder.once('error', () => resolve(false));
    holder.listen(first, '127.0.0.1', () => resolve(true));
  });
  if (!listening) return;
  holders.push(holder);
  ports = Array.from({ length: BLOCK - 1 }, (_, index) => first + 1 + index).filter((port) => !REFUSED.includes(port));
}

/** Unused TCP ports of 127.0.0.1, which no outgoing connection and no other test takes while a server restarts. */
export async function freePorts(count: number): Promise<number[]> {
  const given: number[] = [];
  while (given.length < count) {
    const port = ports.pop();
    if (port === undefined) await takeBlock();
    else if (await isFree(port)) given.push(port);
  }
  return given;
}
