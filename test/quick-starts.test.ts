/**
 * The quick starts are short and refer to existing files, and each documented configuration loads. `npm run
 * test:first-hour` runs their commands in a fresh Debian.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse as parseToml } from 'smol-toml';
import { parseConfig } from '../src/config/load.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGES = [
  'README.md',
  ...globSync('docs/*.md', { cwd: ROOT }),
  ...globSync('adapters/*/README.md', { cwd: ROOT }),
];
const QUICK_STARTS = PAGES.filter((page) => /quick-start/.test(page));
const read = (page: string) => readFileSync(path.join(ROOT, page), 'utf8');

/** The fenced blocks of one language. */
const blocks = (page: string, language: string): string[] =>
  [...read(page).matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, of]) => of === language)
    .map(([, , text]) => text ?? '');

/** Indented blocks. */
const indented = (page: string): string[] =>
  [...read(page).matchAll(/^\n(( {4}.*\n|\n)+)/gm)].map(([, text = '']) => text.replace(/^ {4}/gm, '').trim());

/** Of a section of our configuration. */
const isOurs = (text: string) => /^\[(modules\.mod_event_pusher\.sns|tap|outbox|admin|trace|log|plugins?)\b/.test(text);

const EXCHANGE = ['name', 'type', 'durable', 'sent_topic', 'recv_topic'];
/** The options that MongooseIM 6.8 documents for what the documents show of its configuration. */
const MONGOOSEIM: Readonly<Record<string, readonly string[]>> = {
  'outgoing_pools.rabbit.event_pusher': ['scope', 'strategy', 'workers', 'call_timeout', 'connection'],
  'outgoing_pools.rabbit.event_pusher.connection': [
    ...['host', 'port', 'username', 'password', 'virtual_host', 'tls'],
    ...['confirms_enabled', 'max_worker_queue_len', 'reconnect'],
  ],
  'outgoing_pools.rabbit.event_pusher.connection.reconnect': ['attempts', 'delay'],
  'modules.mod_event_pusher.rabbit': ['presence_exchange', 'chat_msg_exchange', 'groupchat_msg_exchange'],
  'modules.mod_event_pusher.rabbit.presence_exchange': EXCHANGE,
  'modules.mod_event_pusher.rabbit.chat_msg_exchange': EXCHANGE,
  'modules.mod_event_pusher.rabbit.groupchat_msg_exchange': EXCHANGE,
};

/** The commands that a page tells the reader to type. */
const typed = (page: string): string[] => blocks(page, 'sh').flatMap((text) => text.trimEnd().split('\n'));

/** The commands of a line, with variables but without shell operators. */
const commandsOf = (line: string): string[][] =>
  line
    .replace(/\s#.*$/, '')
    .split(/\s+(?:&&|\|)\s+/)
    .map((part) => part.trim().split(/\s+/));

describe('the documents', () => {
  it('documented configurations load', () => {
    const environment = new Proxy({} as Record<string, string>, {
      get: () => 'a-secret-long-enough',
      getOwnPropertyDescriptor: () => ({ configurable: true, enumerable: true, value: '' }),
    });
    const SNS =
      '[modules.mod_event_pusher.sns]\nsns_host = "x"\nregion = "r"\naccount_id = "123456789012"\ncredentials = "aws"\n';
    const found = PAGES.flatMap((page) =>
      [...blocks(page, 'toml'), ...indented(page).filter(isOurs)].map((text) => ({ page, text })),
    );
    assert.ok(found.length > 8, `${found.length} blocks`);
    for (const { page, text } of found) {
      const excerpt = SNS + text.replace(/^\[modules\.mod_event_pusher\.sns\]\n/, '');
      assert.doesNotThrow(
        () => parseConfig(/sns_host/.test(text) ? text : excerpt, '/pusher.toml', environment),
        `${page}: ${text}`,
      );
    }
  });

  it("documented configurations of MongooseIM have its options, and the daemon reads RabbitMQ's address from them", () => {
    const found = PAGES.flatMap(indented).filter((text) => /^# mongooseim\.toml\n/.test(text));
    assert.ok(found.length > 0);
    for (const text of found) {
      const unknown: string[] = [];
      const visit = (table: object, at: string) => {
        for (const [key, value] of Object.entries(table)) {
          const known = MONGOOSEIM[at];
          if (known && !known.includes(key)) unknown.push(`${at}.${key}`);
          if (typeof value === 'object') visit(value, at === '' ? key : `${at}.${key}`);
        }
      };
      visit(parseToml(text), '');
      assert.deepEqual(unknown, []);
      const sns = 'sns_host = "x"\nregion = "r"\naccount_id = "123456789012"\ncredentials = "aws"\n';
      const whole = `${text}\n[modules.mod_event_pusher.sns]\n${sns}[tap.rabbitmq]\n`;
      const { tap } = parseConfig(whole, '/mongooseim.toml', {});
      assert.equal(tap.rabbitmq?.presence_exchange.durable, true);
      assert.equal(tap.rabbitmq?.url.length, 1);
    }
  });
});

describe('the README and the quick starts', () => {
  it('the README and quick starts need at most six lines until the first notification', () => {
    assert.equal(QUICK_STARTS.length, 3);
    for (const page of QUICK_STARTS) {
      const lines = typed(page).length - (blocks(page, 'sh').at(-1)?.includes('adapter status') ? 3 : 0);
      assert.ok(lines <= 6, `${page}: ${lines} lines`);
    }
    assert.ok(read('README.md').split('\n').length < 120);
  });

  it('documents use only installed programs, packaged files, and existing scripts', () => {
    const { scripts } = JSON.parse(read('package.json'));
    const deb = read('scripts/deb.ts');
    const known = /^(export|apt|aws|systemctl|xmpp-event-pusher|npm)$/;
    for (const page of ['README.md', ...QUICK_STARTS])
      for (const line of typed(page))
        for (const [program = '', ...words] of commandsOf(line)) {
          assert.match(program, known, `${page}: ${line}`);
          if (program === 'npm' && words[0] === 'run') assert.ok(scripts[words[1] ?? ''], line);
          const file = words.find((word) => word.startsWith('/usr/share/doc/xmpp-event-pusher/'));
          if (file) assert.ok(deb.includes(`\${doc}/${path.basename(file)}`), file);
        }
  });

  it('documents name this release, and existing pictures', () => {
    const { version } = JSON.parse(read('package.json'));
    for (const page of PAGES)
      for (const [, named] of read(page).matchAll(/xmpp-event-pusher_([\d.]+)_\w+\.deb/g))
        assert.equal(named, version, page);
    const [, picture = ''] = /!\[[^\]]*\]\(([^)]+)\)/.exec(read('README.md')) ?? [];
    assert.ok(existsSync(path.join(ROOT, picture)), picture);
  });
});
