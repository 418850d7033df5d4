/**
 * The admin address for this machine's command line: a Unix socket beside the outbox. The file's mode decides who may
 * use it: the daemon's own user and root.
 */
import { existsSync, lstatSync, realpathSync, unlinkSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import net, { type Socket } from 'node:net';
import { messageOf } from '../errors.ts';
import { REQUEST_LIMITS, type RequestLimits } from '../http/limits.ts';

/** The system's limit for a socket's path, in bytes (unix(7); macOS and the BSDs have 104 with the final zero). */
const MOST_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** The path of an outbox's socket: beside the file itself, also when `outboxFile` is a link to it. */
export const socketBeside = (outboxFile: string): string =>
  `${existsSync(outboxFile) ? realpathSync(outboxFile) : outboxFile}.sock`;

/** Why a socket can't have this path; undefined when it can. */
export function socketPathProblem(file: string): string | undefined {
  const bytes = Buffer.byteLength(file);
  if (bytes <= MOST_PATH_BYTES) return undefined;
  return `${file} has ${bytes} bytes, and a Unix socket's path at most ${MOST_PATH_BYTES}`;
}

export interface LocalListener {
  /** Whether a connection came by the socket. */
  owns(connection: Socket): boolean;
  /** Ends open connections and removes the socket. */
  close(): Promise<void>;
}

/**
 * Serves `handler` at a Unix socket, readable and writable for this process's user only. Replaces a dead process's
 * socket, but neither one with a listener nor any other file.
 * @throws Error with the reason why it can't
 */
export async function listenLocally(
  file: string,
  handler: RequestListener,
  limits: RequestLimits = REQUEST_LIMITS,
): Promise<LocalListener> {
  const problem = socketPathProblem(file);
  if (problem) throw new Error(problem);
  await removeStale(file);
  const connections = new WeakSet<Socket>();
  const server = createServer(limits, handler).on('connection', (connection) => connections.add(connection));
  await new Promise<void>((resolve, reject) => {
    // `listen` creates the socket synchronously, with the mode that the umask leaves.
    const mask = process.umask(0o177);
    try {
      server.once('error', reject).listen(file, resolve);
    } finally {
      process.umask(mask);
    }
  });
  return {
    owns: (connection) => connections.has(connection),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function removeStale(file: string): Promise<void> {
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new Error(`${file} exists and is not a socket: delete it`);
  if (await isServed(file)) throw new Error(`another process listens on ${file}`);
  unlinkSync(file);
}

/** @throws Error when that is unknown, as for another user's socket */
function isServed(file: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const connection = net.connect(file);
    connection.once('connect', () => {
      connection.destroy();
      resolve(true);
    });
    connection.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(new Error(`can't examine ${file}: ${messageOf(error)}`, { cause: error }));
    });
  });
}
