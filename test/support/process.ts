/**
 * Child processes of the tests: started, watched, ended by their pid.
 *
 * Nothing here outlives the test run: what is still running when this process exits is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Process {
  readonly pid: number;
  readonly running: boolean;
  /** All that it wrote to stdout and stderr so far. */
  output(): string;
  /** Types into its standard input, where that is a pipe. */
  type(text: string): void;
  /** Ends its standard input, where that is a pipe. */
  endInput(): void;
  /** Sends a signal and waits until it is gone. Does nothing when it is gone already. */
  end(signal: 'SIGTERM' | 'SIGKILL' | 'SIGINT'): Promise<void>;
  /** Settles with its exit code, or null when a signal ended it. */
  readonly exited: Promise<number | null>;
}

export interface LaunchOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  uid?: number | undefined;
  gid?: number | undefined;
  stdin?: 'ignore' | 'pipe';
  /** A file descriptor that its standard output goes to, instead of what `output` answers. */
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
    child.once('close', (code) => {
      alive.delete(child);
      resolve(code);
    });
  });
  // Before anything else can happen: what ends this process in the next moment ends that one too.
  alive.add(child);
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

/** Polls until the condition holds; a condition that throws counts as not holding yet. Rejects, saying what never came, after `ms`. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  const deadline = Date.now() + ms;
  let cause: unknown;
  for (;;) {
    try {
      if (await condition()) return;
    } catch (error) {
      cause = error;
    }
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms in vain: ${what}`, { cause });
    await sleep(10);
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

/** Waits until the process accepts connections on each port; rejects with its output when it ends before that. */
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

/** Those that `fetch`, as a browser, refuses among the ones that are drawn (https://fetch.spec.whatwg.org/#port-blocking). */
const REFUSED = [10_080];

const given = new Set<number>(REFUSED);

/**
 * TCP ports of 127.0.0.1 that nothing listens on. They are drawn from below the kernel's ephemeral range (32768 and up
 * on Linux), so that a server stopped and started again still finds its port free of somebody's outgoing connection.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}
