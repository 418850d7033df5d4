/**
 * A connection to RabbitMQ that reconnects: to several addresses, with growing pauses; it reports what is wrong
 * meanwhile.
 *
 * Maintained invariants:
 * - At most one connection at a time; `opened` ends for one before the next is tried.
 * - `problem` says why nothing can be published or consumed now; undefined only while a connection is open, what
 *   `opened` did with it succeeded, and no alarm blocks it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Channel, type ChannelModel, type ConfirmChannel, connect, credentials } from 'amqplib';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { answered, atMost } from './answers.ts';
import { type BrokerProblem, ExplainedError, explain } from './explain.ts';
import { reasonOfCut } from './handshake.ts';
import type { TlsSource } from './tls.ts';

export interface BrokerOptions {
  /** `amqp://user:password@host:port/vhost` or `amqps:`, of one broker's nodes; tried in turn. */
  readonly urls: readonly string[];
  readonly tls?: TlsSource | undefined;
  /** What RabbitMQ's lists of connections show. */
  readonly name: string;
  readonly log: Log;
  /**
   * Called with each new connection before it counts as open: declares and subscribes. An error closes the
   * connection and becomes the problem until the next try.
   */
  readonly opened?: (connection: ChannelModel) => Promise<void>;
  /** Called when an open connection is lost, whatever the cause. */
  readonly closed?: () => void;
  /** Called when `problem` changes. */
  readonly changed?: () => void;
}

export interface Broker extends AsyncDisposable {
  /** Undefined while disconnected. */
  readonly connection: ChannelModel | undefined;
  readonly problem: BrokerProblem | undefined;
  /** Closes the connection for good. Bounded: a connection that doesn't answer is destroyed. */
  close(): Promise<void>;
}

/** How long a connection may take to open, in milliseconds. */
const CONNECT_MS = 10_000;
/** Pauses between tries of all addresses, in milliseconds. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** How long a close may take before the socket is destroyed: amqplib waits for an answer for ever. */
const CLOSE_MS = 2_000;
/**
 * Heartbeat in seconds: each side gives up a silent peer after two to three times as long. Until then, the partitions of
 * a daemon that is cut off have nobody: 15 s at most.
 */
const HEARTBEAT_S = 5;

const CONNECTING: BrokerProblem = {
  kind: 'network',
  reason: 'not connected yet',
  advice: 'wait: the daemon is connecting',
};

/** Explains an alarm. */
export const blocked = (reason: string): BrokerProblem => ({
  kind: 'other',
  reason: `RabbitMQ takes nothing new: ${reason}`,
  advice:
    'a node raised an alarm: give it memory or disk space (`rabbitmqctl list_alarms` names the node), or let its queues drain',
});

/** Connects, and reconnects until `close`. */
export function connectBroker(options: BrokerOptions): Broker {
  return new BrokerConnection(options);
}

/** Connects once; rejects with an error for {@link explain}. */
export async function connectOnce(
  url: string,
  source: TlsSource = {},
  name = 'xmpp-event-pusher',
): Promise<ChannelModel> {
  const address = new URL(url);
  if (!address.searchParams.has('heartbeat')) address.searchParams.set('heartbeat', String(HEARTBEAT_S));
  const tls = typeof source === 'function' ? source() : source;
  const external = tls.cert && address.username === '' ? { credentials: credentials.external() } : {};
  const options = { timeout: CONNECT_MS, noDelay: true, clientProperties: { connection_name: name } };
  try {
    const connection = await connect(address.href, { ...options, ...tls, ...external });
    // An error is followed by a close, for which amqplib may wait for ever. Also, one without a listener would end the
    // process.
    connection.on('error', () => setTimeout(() => destroy(connection), CLOSE_MS).unref());
    connection.on('close', () => closed.add(connection));
    writeOnceATurn(connection);
    return connection;
  } catch (error) {
    throw isCut(error) ? ((await reasonOfCut(address, tls)) ?? error) : error;
  }
}

/** Whether the other side closed the connection without a reason. */
const isCut = (error: unknown): boolean => /closed abruptly|ECONNRESET|EPIPE/.test(messageOf(error));

/** amqplib writes each frame by itself; those of one turn of the event loop become one system call. */
function writeOnceATurn(connection: ChannelModel): void {
  const stream = streamOf(connection);
  if (!stream) return;
  const { write } = stream;
  let corked = false;
  stream.write = (...values) => {
    if (!corked) {
      corked = true;
      stream.cork();
      process.nextTick(() => {
        corked = false;
        stream.uncork();
      });
    }
    return write.apply(stream, values);
  };
}

/** Connections that are closed. */
const closed = new WeakSet<ChannelModel>();

/**
 * Closes a connection; destroys one that doesn't answer in time: its exclusive queues, and so its leases, last as long
 * as its socket. RabbitMQ answers when all channels have ended, and a channel may wait long for a queue's leader.
 */
export async function closeConnection(connection: ChannelModel): Promise<void> {
  if (closed.has(connection)) return;
  const { promise: end, resolve } = Promise.withResolvers<void>();
  connection.once('close', () => resolve());
  // Throws if someone else has begun to close it; that may take as long.
  connection.close().catch(() => undefined);
  const late = setTimeout(() => {
    destroy(connection);
    resolve();
  }, CLOSE_MS);
  await end;
  clearTimeout(late);
}

/** Ends a connection at once, unless it is closed. */
function destroy(connection: ChannelModel): void {
  const error = new Error(`RabbitMQ did not answer within ${CLOSE_MS / 1_000} s (close the connection)`);
  // With an error: amqplib doesn't notice the end of a socket that is destroyed without one.
  if (!closed.has(connection)) streamOf(connection)?.destroy(error);
}

interface Stream {
  write(...values: unknown[]): boolean;
  cork(): void;
  uncork(): void;
  destroy(error: Error): void;
}

/** Its socket, which amqplib's types leave out. */
function streamOf(connection: ChannelModel): Stream | undefined {
  const { stream } = connection.connection as unknown as { stream?: Stream };
  return stream;
}

/**
 * Opens a channel. @param lost called when it ends other than by its `close`, with the broker's reason where it gave
 * one
 */
export async function openChannel(
  connection: ChannelModel,
  lost: (error?: Error) => void = () => {},
): Promise<Channel> {
  return watch(connection, await open(connection, () => connection.createChannel()), lost);
}

/** Opens a channel with confirms; as {@link openChannel}. */
export async function openConfirmChannel(
  connection: ChannelModel,
  lost: (error?: Error) => void = () => {},
): Promise<ConfirmChannel> {
  return watch(connection, await open(connection, () => connection.createConfirmChannel()), lost);
}

/** Opens a channel in time; closes one that opens too late. */
async function open<C extends Channel>(connection: ChannelModel, create: () => Promise<C>): Promise<C> {
  if (isBlocked(connection)) throw new ExplainedError(blocked('an alarm'));
  return await answered(create(), 'open a channel', (channel) => void channel.close().catch(() => undefined));
}

/** RabbitMQ reads nothing from a connection that an alarm blocks, so it answers nothing either. */
export const isBlocked = ({ connection }: ChannelModel): boolean =>
  (connection as { blocked?: boolean }).blocked === true;

function watch<C extends Channel>(connection: ChannelModel, channel: C, lost: (error?: Error) => void): C {
  let over = false;
  const end = (error?: Error) => {
    if (over) return;
    over = true;
    lost(error);
  };
  channel.on('error', end);
  channel.on('close', () => end());
  const { close } = channel;
  channel.close = () => {
    over = true;
    const closing = answered(close.call(channel), 'close a channel');
    if (!isBlocked(connection)) return closing;
    closing.catch(() => undefined);
    return Promise.resolve();
  };
  for (const name of ASKING) {
    const ask = channel[name] as (...values: unknown[]) => Promise<unknown>;
    Object.assign(channel, { [name]: (...values: unknown[]) => answered(ask.apply(channel, values), name) });
  }
  return channel;
}

/** Closes a channel that is no longer needed, without waiting: now and then the broker doesn't answer. */
export function closeSoon(channel: Channel): void {
  channel.close().catch(() => undefined);
}

/** Requests that RabbitMQ may never answer: on a queue that is being deleted, or has too few nodes. */
const ASKING = [
  'assertQueue',
  'checkQueue',
  'deleteQueue',
  'bindQueue',
  'assertExchange',
  'prefetch',
  'consume',
  'get',
] as const;

/** An address without its password, for display. */
export function shownUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

class BrokerConnection implements Broker {
  readonly #options: BrokerOptions;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  /** The last connection, also before `opened` has ended. */
  #open: ChannelModel | undefined;
  #connection: ChannelModel | undefined;
  #problem: BrokerProblem | undefined = CONNECTING;
  #blocked: BrokerProblem | undefined;
  /** Problems logged of each address since it last worked, so that each is logged once. */
  readonly #logged = new Map<string, string>();

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  get connection(): ChannelModel | undefined {
    return this.#connection;
  }

  get problem(): BrokerProblem | undefined {
    return this.#problem ?? this.#blocked;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    if (this.#open) await closeConnection(this.#open);
    // A connection that is opening meanwhile closes as soon as it is open.
    await atMost(CLOSE_MS, this.#running);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(): Promise<void> {
    const { urls } = this.#options;
    // Daemons with the same list start at different nodes.
    let next = Math.floor(Math.random() * urls.length);
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      const url = urls[next++ % urls.length] as string;
      const worked = await this.#use(url);
      failures = worked ? 0 : failures + 1;
      // Tries all addresses before it pauses.
      const rounds = Math.floor(failures / urls.length);
      if (worked || failures % urls.length === 0)
        await this.#pause(Math.min(FIRST_PAUSE_MS * 2 ** rounds, LONGEST_PAUSE_MS));
    }
  }

  /** Opens a connection and waits for its end; returns whether it was open. */
  async #use(url: string): Promise<boolean> {
    const { tls, name, opened, closed, log } = this.#options;
    let connection: ChannelModel | undefined;
    try {
      connection = await connectOnce(url, tls, name);
      if (this.#closing.signal.aborted) {
        await closeConnection(connection);
        return true;
      }
      this.#open = connection;
      const ended = endOf(connection);
      this.#watchAlarms(connection);
      // Not `opened` alone: it may never settle if the connection is lost meanwhile.
      const lost = ended.then((error) => Promise.reject(error ?? new Error('Connection closed')));
      await Promise.race([Promise.resolve(opened?.(connection)), lost]);
      lost.catch(() => {});
      this.#connection = connection;
      this.#note(undefined);
      log.info({ broker: shownUrl(url) }, 'connected to RabbitMQ');
      const error = await ended;
      this.#connection = undefined;
      this.#blocked = undefined;
      if (!this.#closing.signal.aborted) this.#note(explain(error ?? new Error('Connection closed')), url);
      closed?.();
      return true;
    } catch (error) {
      const problem = this.#blocked ?? explain(error);
      this.#blocked = undefined;
      if (connection) await closeConnection(connection);
      if (!this.#closing.signal.aborted) this.#note(problem, url);
      return false;
    }
  }

  #watchAlarms(connection: ChannelModel): void {
    const { log, changed } = this.#options;
    connection.on('blocked', (reason) => {
      this.#blocked = blocked(reason);
      log.error({ problem: this.#blocked.reason, advice: this.#blocked.advice }, 'RabbitMQ raised an alarm');
      changed?.();
    });
    connection.on('unblocked', () => {
      this.#blocked = undefined;
      log.info({}, "RabbitMQ's alarm is over");
      changed?.();
    });
  }

  #note(problem: BrokerProblem | undefined, url?: string): void {
    this.#problem = problem && { ...problem, reason: url ? `${shownUrl(url)}: ${problem.reason}` : problem.reason };
    if (!problem || url === undefined) this.#logged.clear();
    else if (this.#logged.get(url) !== problem.reason) {
      this.#logged.set(url, problem.reason);
      const line = { problem: this.#problem?.reason, advice: problem.advice };
      this.#options.log.error(line, "can't use RabbitMQ; retrying");
    }
    this.#options.changed?.();
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => {});
  }
}

/** Settles when a connection ends, with the reason if there is one. */
const endOf = (connection: ChannelModel): Promise<Error | undefined> =>
  new Promise((resolve) => {
    let error: Error | undefined;
    connection.on('error', (cause) => {
      error = cause;
    });
    connection.on('close', (cause) => resolve(error ?? cause));
  });
