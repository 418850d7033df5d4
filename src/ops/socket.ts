/**
 * The admin address for this machine's command line: a Unix socket beside the outbox. The file's mode decides who may use
 * it: the daemon's own user and root.
 */
import { existsSync, lstatSync, realpathSync, unlinkSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import net, { type Socket } from 'node:net';
import { messageOf } from '../errors.ts';
import { REQUEST_LIMITS, type RequestLimits } from '../http/limits.ts';

/** What the system has room for in a socket's path, in bytes (unix(7); macOS and the BSDs have 104 with the final zero). */
const MOST_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** Where the socket of an outbox is: beside the file itself, also when `outboxFile` is a link to it. */
export const socketBeside = (outboxFile: string): string =>
  `${existsSync(outboxFile) ? realpathSync(outboxFile) : outboxFile}.sock`;

/** Why no socket can have this path; undefined when one can. */
export function socketPathProblem(file: string): string | undefined {
  const bytes = Buffer.byteLength(file);
  if (bytes <= MOST_PATH_BYTES) return undefined;
  return `${file} has ${bytes} bytes, and a Unix socket's path at most ${MOST_PATH_BYTES}`;
}

export interface LocalListener {
  /** Whether a connection came by the socket. */
  owns(connection: Socket): boolean;
  /** Ends what is under way and removes the socket. */
  close(): Promise<void>;
}

/**
 * Serves `handler` at a Unix socket, readable and writable for this process's user only. What an earlier process left
 * there is removed; a socket that somebody still listens on is not, nor is any other file.
 * @throws Error that says why there can't be one
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
    // The socket is made within `listen`, with the mode that the mask leaves.
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
  if (!found.isSocket()) throw new Error(`${file} is in the way, and is no socket`);
  if (await isServed(file)) throw new Error(`another process listens on ${file}`);
  unlinkSync(file);
}

/** @throws Error when it can't be told, as for a socket of another user */
function isServed(file: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const connection = net.connect(file);
    connection.once('connect', () => {
      connection.destroy();
      resolve(true);
    });
    connection.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(new Error(`${file} can't be looked at: ${messageOf(error)}`, { cause: error }));
    });
  });
}
