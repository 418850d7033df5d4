/** Where the options of `[tap.rabbitmq]` stand in a file: in the section itself, or in MongooseIM's own. */

type Table = Readonly<Record<string, unknown>>;

const EXCHANGE_SECTIONS = ['presence_exchange', 'chat_msg_exchange', 'groupchat_msg_exchange'] as const;

/** A section as it was written, and its dotted path. */
interface Place {
  readonly at: string;
  readonly input: unknown;
}

export interface RabbitPlaces {
  readonly tap: Place;
  readonly exchanges: Readonly<Record<(typeof EXCHANGE_SECTIONS)[number], Place>>;
  /** The dotted path of MongooseIM's section, where that is read. */
  readonly theirs: string | undefined;
}

/**
 * Finds the sections; undefined where the file has no `[tap.rabbitmq]`. What it does not say, exchanges and address, is
 * MongooseIM's, where the file is a whole `mongooseim.toml`.
 */
export function rabbitPlaces(document: Table): RabbitPlaces | undefined {
  const section = within(document, 'tap')?.rabbitmq;
  if (section === undefined) return undefined;
  const at = 'tap.rabbitmq';
  const own = isTable(section) ? section : {};
  const theirs = within(document, 'modules', 'mod_event_pusher', 'rabbit');
  const isTheirs = theirs !== undefined && EXCHANGE_SECTIONS.every((name) => own[name] === undefined);
  const exchange = (name: (typeof EXCHANGE_SECTIONS)[number]): Place =>
    isTheirs ? { at: `${THEIR_SECTION}.${name}`, input: theirs[name] } : { at: `${at}.${name}`, input: own[name] };
  const rest = Object.fromEntries(
    Object.entries(own).filter(([key]) => !(EXCHANGE_SECTIONS as readonly string[]).includes(key)),
  );
  const url = rest.url ?? poolUrl(document);
  const input = url === undefined ? rest : { ...rest, url };
  return {
    tap: { at, input: isTable(section) ? input : section },
    exchanges: {
      presence_exchange: exchange('presence_exchange'),
      chat_msg_exchange: exchange('chat_msg_exchange'),
      groupchat_msg_exchange: exchange('groupchat_msg_exchange'),
    },
    theirs: isTheirs ? THEIR_SECTION : undefined,
  };
}

const THEIR_SECTION = 'modules.mod_event_pusher.rabbit';

/**
 * The address of MongooseIM's pool, with its defaults; undefined where the file has none.
 * @param hide what to write in the place of the password
 */
export function poolUrl(document: Table, hide?: (encoded: string) => string): string | undefined {
  const pool = within(document, 'outgoing_pools', 'rabbit', 'event_pusher');
  if (!pool) return undefined;
  const {
    host = 'localhost',
    port,
    username = 'guest',
    password = 'guest',
    virtual_host = '/',
    tls,
  } = within(pool, 'connection') ?? {};
  const [name, secret, vhost] = [username, password, virtual_host].map((text) => encodeURIComponent(String(text)));
  const shown = hide ? hide(secret as string) : secret;
  return `${tls === undefined ? 'amqp' : 'amqps'}://${name}:${shown}@${host}${port === undefined ? '' : `:${port}`}/${vhost}`;
}

function within(table: Table, ...names: readonly string[]): Table | undefined {
  let found: unknown = table;
  for (const name of names) found = isTable(found) ? found[name] : undefined;
  return isTable(found) ? found : undefined;
}

const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
