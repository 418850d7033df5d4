import assert from 'node:assert/strict';
import { mkdtemp, mkdtempDisposable, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { PusherError } from '../errors.ts';
import { loadConfig, type PusherConfig, parseConfig } from './load.ts';
import type { SnsOptions } from './sns-options.ts';

const FILE = '/etc/pusher/pusher.toml';
const AT = 'modules.mod_event_pusher.sns';

const SNS = {
  sns_host: '"sns.eu-west-1.amazonaws.com"',
  region: '"eu-west-1"',
  access_key_id: '"AKIAIOSFODNN7EXAMPLE"',
  secret_access_key: '"wJalrXUtnFEMI"',
  account_id: '"123456789012"',
};

/** A TOML section from options with their values as TOML; omits those that are `undefined`. */
const section = (name: string, options: Record<string, string | undefined>): string =>
  `[${name}]\n${Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} = ${value}\n`)
    .join('')}`;

const sns = (options: Record<string, string | undefined> = {}): string => section(AT, { ...SNS, ...options });
const http = (options: Record<string, string>): string => sns() + section('tap.http', options);

const parse = (text: string, environment: Record<string, string> = {}): PusherConfig =>
  parseConfig(text, FILE, environment);
const snsOf = (text: string, environment?: Record<string, string>) => parse(text, environment).sns as SnsOptions;

function faultOf(text: string, environment?: Record<string, string>): PusherError {
  try {
    parse(text, environment);
  } catch (error) {
    assert.ok(error instanceof PusherError);
    return error;
  }
  throw new Error('it was accepted');
}

/** The error lines for a text, without indentation. */
function mistakes(text: string, environment?: Record<string, string>): string[] {
  const { code, message } = faultOf(text, environment);
  assert.equal(code, 'CONFIG_INVALID');
  const [head, ...lines] = message.split('\n');
  assert.equal(head, `${FILE}: ${lines.length === 1 ? '1 mistake' : `${lines.length} mistakes`}`);
  return lines.map((line) => line.replace(/^ {2}/, ''));
}

describe('configuration', () => {
  it('a configuration with the documented section alone has the documented defaults', () => {
    assert.deepEqual(parse(sns()), {
      file: FILE,
      sns: {
        plugin_module: 'mod_event_pusher_sns_defaults',
        sns_host: new URL('https://sns.eu-west-1.amazonaws.com'),
        region: 'eu-west-1',
        credentials: 'static',
        access_key_id: 'AKIAIOSFODNN7EXAMPLE',
        secret_access_key: 'wJalrXUtnFEMI',
        account_id: '123456789012',
        pool_size: 100,
        publish_retry_count: 2,
        publish_retry_time_ms: 50,
        publish_exhausted: 'wait',
        presence: 'user',
        attributes: [],
        cloudevents: false,
        body_fields: [],
      },
      hosts: new Map(),
      tap: { http: { listen: { host: '127.0.0.1', port: 5290, loopback: true } }, rabbitmq: undefined },
      outbox: {
        engine: 'sqlite',
        prefix: 'xep',
        retention: 0,
        partitions: 6,
        path: './outbox.db',
        max_bytes: 1_073_741_824,
      },
      trace: { keep: 3_600_000, max_bytes: 268_435_456 },
      admin: { source_silent_after: 3_600_000, listen: { host: '127.0.0.1', port: 5291, loopback: true } },
      log: { level: 'info' },
      ignored: [],
      variables: [],
    });
  });

  it("accepts MongooseIM's example unchanged", () => {
    const text = `
      [modules.mod_event_pusher.sns]
        presence_updates_topic = "user_presence_updated"
        pm_messages_topic = "user_message_sent"
        muc_messages_topic = "user_messagegroup_sent"
        plugin_module = "mod_event_pusher_sns_defaults"
        sns_host = "eu-west-1.amazonaws.com"
        region = "eu-west-1"
        access_key_id = "AKIAIOSFODNN7EXAMPLE"
        secret_access_key = "wJalrXUtnFEMI"
        account_id = "123456789012"
        pool_size = 100
        publish_retry_count = 2
        publish_retry_time_ms = 50`;
    const { sns_host, presence_updates_topic, pm_messages_topic, muc_messages_topic } = snsOf(text);
    assert.equal(sns_host.href, 'https://sns.eu-west-1.amazonaws.com/');
    assert.deepEqual(
      [presence_updates_topic, pm_messages_topic, muc_messages_topic],
      ['user_presence_updated', 'user_message_sent', 'user_messagegroup_sent'],
    );
  });

  it('accepts a whole mongooseim.toml, and lists the ignored sections', () => {
    const text = `
      [general]
        loglevel = "warning"
        hosts = ["localhost"]
        default_server_domain = "localhost"
      [[listen.c2s]]
        port = 5222
        access = "\${NOT_OURS}"
      [auth]
        [auth.internal]
      [outgoing_pools.rdbms.default]
        scope = "global"
        [outgoing_pools.rdbms.default.connection]
          password = "mongooseim_secret"
      [modules.mod_roster]
      [modules.mod_event_pusher]
        [modules.mod_event_pusher.rabbit]
          presence_exchange.name = "presence"
        [modules.mod_event_pusher.push]
          backend = "mnesia"
      ${sns()}
      [[host_config]]
        host = "muted.example.org"
        [host_config.auth]
          methods = ["dummy"]
        [host_config.modules.mod_roster]
      [[host_config]]
        host_type = "dynamic"
        [host_config.modules.mod_event_pusher.rabbit]
      [[host_config]]
        host = "general.example.org"
        [host_config.s2s]`;
    const config = parse(text);
    assert.deepEqual(config.ignored, [
      'general',
      'listen',
      'auth',
      'outgoing_pools',
      'modules.mod_roster',
      'modules.mod_event_pusher.rabbit',
      'modules.mod_event_pusher.push',
      'host_config[0].auth',
      'host_config[0].modules.mod_roster',
      'host_config[1].modules.mod_event_pusher.rabbit',
      'host_config[1].modules (of host_type "dynamic")',
      'host_config[2].s2s',
    ]);
    assert.equal(config.sns?.region, 'eu-west-1');
    assert.deepEqual([...config.hosts], [['muted.example.org', null]]);
  });

  describe('of one virtual host', () => {
    const host = (name: string, options: Record<string, string | undefined>) =>
      `[[host_config]]\nhost = ${name}\n${section(`host_config.${AT}`, options)}`;

    it("a virtual host's section overrides the general one completely: nothing is inherited", () => {
      const config = parse(sns({ pool_size: '7', pm_messages_topic: '"pm"' }) + host('"a.example.org"', SNS));
      assert.equal(config.sns?.pool_size, 7);
      assert.equal(config.hosts.get('a.example.org')?.pool_size, 100);
      assert.equal(config.hosts.get('a.example.org')?.pm_messages_topic, undefined);
      assert.deepEqual(mistakes(sns() + host('"a.example.org"', { ...SNS, region: undefined })), [
        `host_config[0].${AT}.region is required: an AWS region, such as \`eu-west-1\``,
      ]);
    });

    it('finds a virtual host by its name in lower case', () => {
      assert.deepEqual([...parse(host('"A.Example.ORG"', SNS)).hosts.keys()], ['a.example.org']);
    });

    it('a section of one virtual host is enough', () => {
      const config = parse(host('"a.example.org"', SNS));
      assert.equal(config.sns, undefined);
      assert.equal(config.hosts.get('a.example.org')?.region, 'eu-west-1');
    });

    it('a virtual host whose modules lack our section publishes nothing', () => {
      const text = `${sns()}[[host_config]]\nhost = "off.example.org"\n[host_config.modules.mod_mam]\n`;
      assert.equal(parse(text).hosts.get('off.example.org'), null);
      const pusher = `${sns()}[[host_config]]\nhost = "off.example.org"\n[host_config.modules.mod_event_pusher]\n`;
      assert.equal(parse(pusher).hosts.get('off.example.org'), null);
    });

    it('a virtual host without modules uses the general section', () => {
      assert.equal(parse(`${sns()}[[host_config]]\nhost = "x.example.org"\n`).hosts.has('x.example.org'), false);
    });

    it("takes a virtual host's name from the environment", () => {
      assert.deepEqual(
        [...parse(host('"${DOMAIN}"', SNS), { DOMAIN: 'env.example.org' }).hosts.keys()],
        ['env.example.org'],
      );
      assert.deepEqual(mistakes(sns() + host('"${DOMAIN}"', SNS)), [
        'host_config[0].host refers to ${DOMAIN}, which is not set in the environment',
      ]);
    });

    it('rejects a virtual host without a name, named twice, or not a section', () => {
      assert.deepEqual(mistakes(sns() + host('5', SNS)), [
        'host_config[0].host is the number 5, should be the name of an XMPP domain',
      ]);
      assert.deepEqual(mistakes(sns() + host('""', SNS)), [
        'host_config[0].host is "", should be the name of an XMPP domain',
      ]);
      for (const name of [' a.org', 'a.org ', 'a b', 'user@a.org', 'a.org/x'])
        assert.deepEqual(mistakes(sns() + host(`"${name}"`, SNS)), [
          `host_config[0].host is "${name}", should be the name of an XMPP domain`,
        ]);
      assert.deepEqual(mistakes(`${sns()}[[host_config]]\n${section(`host_config.${AT}`, SNS)}`), [
        'host_config[0].host is missing, should be the name of an XMPP domain',
      ]);
      assert.deepEqual(mistakes(sns() + host('"a.org"', SNS) + host('"A.org"', SNS)), [
        'host_config[1].host is "A.org", which has a host_config already',
      ]);
      assert.deepEqual(mistakes(`host_config = ["a.org"]\n${sns()}`), [
        'host_config[0] is "a.org", should be a section',
      ]);
      assert.deepEqual(mistakes(`host_config = 1\n${sns()}`), [
        'host_config is the number 1, should be a list: [[host_config]]',
      ]);
    });
  });

  describe('refuses', () => {
    const TOPIC =
      'should be an SNS topic name: 1 to 256 ASCII letters, digits, hyphens and underscores, for a FIFO topic with `.fifo` at the end; or a template for one of `topics`, such as `chat-{host}`';
    const HOST = 'should be a host name, or an http(s) URL without query, such as `sns.eu-west-1.amazonaws.com`';
    const LIST = 'should be a list of any of "event_id", "timestamp", "type", "stanza_id", "host", "traceparent"';

    for (const [option, value, problem] of [
      ['presence_updates_topic', '""', `is "", ${TOPIC}`],
      ['presence_updates_topic', '"a.b"', `is "a.b", ${TOPIC}`],
      ['pm_messages_topic', '"a.fifo.fifo"', `is "a.fifo.fifo", ${TOPIC}`],
      ['muc_messages_topic', `"${'x'.repeat(257)}"`, `is "${'x'.repeat(60)}…", ${TOPIC}`],
      ['muc_messages_topic', 'false', `is the boolean false, ${TOPIC}`],
      [
        'plugin_module',
        '""',
        'is "", should be the path of an ES module or the name of a package, resolved from the configuration file',
      ],
      ['sns_host', '"ftp://sns"', `is "ftp://sns", ${HOST}`],
      ['sns_host', '"https://sns/?x=1"', `is "https://sns/?x=1", ${HOST}`],
      ['sns_host', '"https://key:hidden@sns"', `is "https://…@sns", ${HOST}`],
      ['sns_host', '"not a host"', `is "not a host", ${HOST}`],
      ['sns_host', '1', `is the number 1, ${HOST}`],
      ['region', '"EU (Ireland)"', 'is "EU (Ireland)", should be an AWS region, such as `eu-west-1`'],
      ['account_id', '"1234"', 'is "1234", should be an AWS account number: 12 digits, in quotes'],
      [
        'account_id',
        '123456789012',
        'is the number 123456789012, should be an AWS account number: 12 digits, in quotes',
      ],
      ['pool_size', '0', 'is the number 0, should be a whole number from 1 to 10,000'],
      ['pool_size', '1.5', 'is the number 1.5, should be a whole number from 1 to 10,000'],
      ['pool_size', '"100"', 'is "100", should be a whole number from 1 to 10,000'],
      ['pool_size', '10_001', 'is the number 10001, should be a whole number from 1 to 10,000'],
      ['publish_retry_count', '-1', 'is the number -1, should be a whole number from 0 to 1,000'],
      [
        'publish_retry_time_ms',
        'nan',
        'is the number NaN, should be a whole number of milliseconds from 0 to 3,600,000',
      ],
      ['publish_exhausted', '"drop"', 'is "drop", should be "wait" or "dead-letter"'],
      ['presence', '"users"', 'is "users", should be "user" or "session"'],
      ['attributes', '"host"', `is "host", ${LIST}`],
      ['attributes', '["host", "body"]', `is the list ["host","body"], ${LIST}`],
      ['access_key_id', '""', 'is "", should be the id of an AWS access key, not empty'],
      ['body_fields', '["type", "event-id"]', 'names "event-id", which is not known; did you mean "event_id"?'],
      ['body_fields', '["present"]', 'names "present", which the JSON has already'],
      ['body_fields', '"type"', 'is "type", should be a list of names of fields'],
      ['cloudevents', '"yes"', 'is "yes", should be true or false'],
      ['subject', '"a } b"', 'has a "}" alone; "}}" stands for one'],
      ['message_group_id', '"{from.bar}"', 'names {from.bar}, which is not known; did you mean {from.bare}?'],
      ['message_deduplication_id', '""', 'is "", should be a text, or a template'],
    ] as const)
      it(`${option} = ${value.length > 40 ? `${value.slice(0, 40)}…` : value}`, () => {
        assert.deepEqual(mistakes(sns({ [option]: value })), [`${AT}.${option} ${problem}`]);
      });

    for (const [name, template, problem] of [
      ['a', '"{type"', 'has a "{" alone; "{{" stands for one'],
      ['a', '"{body.lenght}"', 'names {body.lenght}, which is not known; did you mean {body.length}?'],
      ['a', '"{constructor}"', /^names \{constructor\}, which is not known/],
      ['a', '{ number = "{type}" }', /^is no number: it may be a number, or one of \{sessions\}, \{seq\}, /],
      ['a', '{ number = "1{seq}" }', /^is no number/],
      ['a', '{ text = "{type}" }', 'should be a text, or { number = "…" }'],
      ['a', '5', 'should be a text, or { number = "…" }'],
      ['a', '""', 'is not allowed by SNS: its value is empty'],
      ['aws.a', '"{type}"', /^is not allowed by SNS: names that start with "aws\."/],
      ['a b', '"{type}"', /^is not allowed by SNS: its name may hold/],
    ] as const)
      it(`the attribute ${name} = ${template}`, () => {
        for (const option of ['message_attributes', 'presence_attributes']) {
          const [mistake = '', ...others] = mistakes(`${sns()}[${AT}.${option}]\n"${name}" = ${template}\n`);
          assert.deepEqual(others, []);
          const at = `${AT}.${option}.${name} `;
          assert.ok(mistake.startsWith(at), mistake);
          if (typeof problem === 'string') assert.equal(mistake.slice(at.length), problem);
          else assert.match(mistake.slice(at.length), problem);
        }
      });

    it('refuses a topic template without a list, and a list without a template', () => {
      assert.deepEqual(mistakes(sns({ pm_messages_topic: '"chat-{host}"' })), [
        `${AT}.topics is required when a topic is a template`,
      ]);
      assert.deepEqual(mistakes(sns({ topics: '["a"]', pm_messages_topic: '"chat-{hots}"' })), [
        `${AT}.pm_messages_topic names {hots}, which is not known; did you mean {host}?`,
      ]);
      assert.deepEqual(mistakes(sns({ topics: '["a"]' })), [
        `${AT}.topics has no effect: none of the three topics is a template`,
      ]);
      assert.deepEqual(mistakes(sns({ topics: '["a"]', pm_messages_topic: '"chat/{host}"' })), [
        `${AT}.pm_messages_topic has other characters than ASCII letters, digits, hyphens and underscores around its names`,
      ]);
    });

    for (const option of ['sns_host', 'region', 'account_id'])
      it(`a section without ${option}`, () => {
        const [line, ...more] = mistakes(sns({ [option]: undefined }));
        assert.deepEqual(more, []);
        assert.equal(line?.split(':')[0], `${AT}.${option} is required`);
      });

    for (const [written, nearest] of [
      ['presence_update_topic', 'presence_updates_topic'],
      ['secret_acess_key', 'secret_access_key'],
      ['poolsize', 'pool_size'],
    ] as const)
      it(`the unknown option ${written}, and asks whether ${nearest} was meant`, () => {
        assert.deepEqual(mistakes(sns({ [written]: '1' })), [
          `${AT}.${written} is not a known option; did you mean "${nearest}"?`,
        ]);
      });

    it('refuses unknown options in other sections, and unknown taps', () => {
      const text = `${sns()}[tap.htpp]\n[outbox]\nmax_byte = 1\n[admin]\nport = 1\n[log]\nlvl = "info"\n`;
      assert.deepEqual(mistakes(text), [
        'tap.htpp is not a known option; did you mean "http"?',
        'outbox.max_byte is not a known option; did you mean "max_bytes"?',
        ...mistakes(`${sns()}[admin]\nport = 1\n`),
        'log.lvl is not a known option; did you mean "level"?',
      ]);
    });

    it('refuses a file with nothing to publish', () => {
      const nothing = [`${AT} is required`];
      assert.deepEqual(mistakes(''), nothing);
      assert.deepEqual(mistakes('[modules.mod_event_pusher.rabbit]'), nothing);
      assert.deepEqual(mistakes('[[host_config]]\nhost = "a"\n[host_config.modules]'), nothing);
    });

    it('refuses a value in place of a section', () => {
      for (const at of ['modules', 'outbox', 'admin', 'log', 'tap'])
        assert.deepEqual(mistakes(`${at} = 1\n${at === 'modules' ? '' : sns()}`), [
          `${at} is the number 1, should be a section`,
        ]);
      assert.deepEqual(mistakes('[modules]\nmod_event_pusher = "on"'), [
        'modules.mod_event_pusher is "on", should be a section',
      ]);
      assert.deepEqual(mistakes('[modules.mod_event_pusher]\nsns = []'), [`${AT} is the list [], should be a section`]);
      assert.deepEqual(mistakes('modules = 1979-05-27'), ['modules is the date 1979-05-27, should be a section']);
    });

    it('lists every mistake of a file, one a line', () => {
      const text = `${sns({ region: '1', pool_size: '-1', bogus: 'true', account_id: undefined })}
        [tap.http]\nlisten = "0.0.0.0:80"\ntls_cert = "c.pem"\n[outbox]\nmax_bytes = 10\n[log]\nlevel = "loud"`;
      assert.deepEqual(
        mistakes(text)
          .map((line) => line.split(' ')[0])
          .sort(),
        [
          'log.level',
          `${AT}.account_id`,
          `${AT}.bogus`,
          `${AT}.pool_size`,
          `${AT}.region`,
          'outbox.max_bytes',
          'tap.http.secret',
          'tap.http.tls_key',
        ],
      );
    });
  });

  describe('of credentials', () => {
    const without = { access_key_id: undefined, secret_access_key: undefined };

    it('requires both halves of a static key', () => {
      const missing = 'is required, unless credentials = "aws"';
      assert.deepEqual(mistakes(sns(without)), [
        `${AT}.access_key_id ${missing}`,
        `${AT}.secret_access_key ${missing}`,
      ]);
      assert.deepEqual(mistakes(sns({ secret_access_key: undefined })), [`${AT}.secret_access_key ${missing}`]);
    });

    it("accepts either a static key or AWS's provider chain, not both", () => {
      assert.equal(snsOf(sns({ ...without, credentials: '"aws"' })).credentials, 'aws');
      assert.deepEqual(mistakes(sns({ credentials: '"aws"', access_key_id: undefined })), [
        `${AT}.secret_access_key has no effect with credentials = "aws": leave one of the two out`,
      ]);
    });
  });

  describe('of the HTTP tap', () => {
    const listens = (value: string) =>
      parse(http({ listen: value, secret: '"a secret of enough characters"' })).tap.http.listen;

    for (const [value, address] of [
      ['"127.0.0.1:0"', { host: '127.0.0.1', port: 0, loopback: true }],
      ['"127.1.2.3:65535"', { host: '127.1.2.3', port: 65_535, loopback: true }],
      ['"localhost:80"', { host: 'localhost', port: 80, loopback: true }],
      ['"[::1]:80"', { host: '::1', port: 80, loopback: true }],
      ['"[::]:80"', { host: '::', port: 80, loopback: false }],
      ['"0.0.0.0:80"', { host: '0.0.0.0', port: 80, loopback: false }],
      ['"localhost.example.org:80"', { host: 'localhost.example.org', port: 80, loopback: false }],
    ] as const)
      it(`listens on ${value}`, () => assert.deepEqual(listens(value), address));

    for (const value of ['"5290"', '":5290"', '"127.0.0.1"', '"127.0.0.1:65536"', '"::1:5290"', '"a b:1"', '5290'])
      it(`does not listen on ${value}`, () => {
        const shown = value === '5290' ? 'the number 5290' : value;
        assert.deepEqual(mistakes(http({ listen: value })), [
          `tap.http.listen is ${shown}, should be an address and a port, such as \`127.0.0.1:5290\` or \`[::1]:5290\``,
        ]);
      });

    for (const address of ['0.0.0.0', '[::]', '192.168.1.1', '127.0.0.1.example.org', 'chat.example.org'])
      it(`does not listen on ${address} without a secret`, () => {
        assert.deepEqual(mistakes(http({ listen: `"${address}:5290"` })), [
          'tap.http.secret is required when `listen` is not a loopback address',
        ]);
        const secret = 'a secret of enough characters';
        assert.equal(parse(http({ listen: `"${address}:5290"`, secret: `"${secret}"` })).tap.http.secret, secret);
      });

    const outbox = (options: Record<string, string>) => sns() + section('outbox', options);

    it('accepts one or several RabbitMQ addresses, and refuses others', () => {
      const url = '"amqps://user:p%40ss@mq1/xmpp"';
      for (const value of [url, `[${url}, "amqp://mq2:5673"]`])
        assert.ok(parse(outbox({ engine: '"rabbitmq"', url: value })).outbox.url);
      for (const value of ['"https://mq1"', '"mq1"', '[]', `[${url}, ""]`])
        assert.equal(mistakes(outbox({ engine: '"rabbitmq"', url: value })).length, 1, value);
    });

    it('requires an address for RabbitMQ, and RabbitMQ for its options', () => {
      assert.deepEqual(mistakes(outbox({ engine: '"rabbitmq"' })), [
        'outbox.url is required with `engine = "rabbitmq"`',
      ]);
      for (const [name, value] of Object.entries({
        url: '"amqp://mq"',
        prefix: '"x"',
        partitions: '3',
        ca_file: '"c"',
      }))
        assert.deepEqual(mistakes(outbox({ [name]: value })), [
          `outbox.${name} has an effect only with \`engine = "rabbitmq"\``,
        ]);
      const pair = { engine: '"rabbitmq"', url: '"amqps://mq"', cert_file: '"c.pem"' };
      assert.deepEqual(mistakes(outbox(pair)), ['outbox.key_file is missing: `cert_file` and `key_file` go together']);
    });

    it('accepts a certificate and its key only together', () => {
      assert.deepEqual(mistakes(http({ tls_cert: '"c.pem"' })), [
        'tap.http.tls_key is missing: `tls_cert` and `tls_key` go together',
      ]);
      assert.deepEqual(mistakes(http({ tls_key: '"k.pem"' })), [
        'tap.http.tls_cert is missing: `tls_cert` and `tls_key` go together',
      ]);
      const { tls_cert, tls_key } = parse(http({ tls_cert: '"c.pem"', tls_key: '"k.pem"' })).tap.http;
      assert.deepEqual([tls_cert, tls_key], ['c.pem', 'k.pem']);
    });
  });

  describe('of sns_host', () => {
    for (const [value, href] of [
      ['sns.eu-west-1.amazonaws.com', 'https://sns.eu-west-1.amazonaws.com/'],
      ['us-gov-west-1.amazonaws.com', 'https://sns.us-gov-west-1.amazonaws.com/'],
      ['cn-north-1.amazonaws.com.cn', 'https://sns.cn-north-1.amazonaws.com.cn/'],
      ['http://localhost:4566', 'http://localhost:4566/'],
      ['localhost:4566/sns', 'https://localhost:4566/sns'],
      ['https://vpce-1.sns.eu-west-1.vpce.amazonaws.com', 'https://vpce-1.sns.eu-west-1.vpce.amazonaws.com/'],
      ['HTTPS://Proxy.example.org:8443/a/b/', 'https://proxy.example.org:8443/a/b/'],
    ] as const)
      it(`reads ${value}`, () => assert.equal(snsOf(sns({ sns_host: `"${value}"` })).sns_host.href, href));
  });

  describe('with environment variables', () => {
    const environment = { SECRET: 'of-the-environment', EMPTY: '', ACCOUNT: '210987654321', PART: 'west' };

    it('replaces environment variables anywhere in a text of our sections', () => {
      const options = snsOf(
        sns({
          secret_access_key: '"${SECRET}"',
          region: '"eu-${PART}-1"',
          account_id: '"${ACCOUNT}"',
          attributes: '["${WHICH}"]',
        }),
        { ...environment, WHICH: 'host' },
      );
      assert.deepEqual(
        [options.secret_access_key, options.region, options.account_id, options.attributes],
        ['of-the-environment', 'eu-west-1', '210987654321', ['host']],
      );
      const text = http({ secret: '"${SECRET}"' });
      assert.equal(parse(text, environment).tap.http.secret, 'of-the-environment');
    });

    for (const [written, meant] of [
      ['$${SECRET}', '${SECRET}'],
      ['$${SECRET}:${SECRET}', '${SECRET}:of-the-environment'],
      ['$SECRET', '$SECRET'],
      ['$$SECRET', '$$SECRET'],
      ['a$${', 'a${'],
      ['${SECRET}${SECRET}', 'of-the-environmentof-the-environment'],
    ] as const)
      it(`reads ${written} as ${meant}`, () => {
        assert.equal(snsOf(sns({ secret_access_key: `"${written}"` }), environment).secret_access_key, meant);
      });

    it("names a suspicious character in a variable's value", () => {
      for (const [value, problem] of [
        ['value\n', 'ends in U+000A (a newline)'],
        ['value\r\n', 'has U+000D (a carriage return) inside'],
        ['value ', 'ends in U+0020 (a space)'],
        ['\tvalue', 'begins with U+0009 (a tab)'],
        ['val\u0000ue', 'has U+0000 inside'],
        ['\ufeffvalue', 'begins with U+FEFF (a byte order mark)'],
        ['value\u00a0', 'ends in U+00A0 (a no-break space)'],
      ] as const) {
        const text = `${sns({ secret_access_key: '"${V}"', ca_file: '"a${V}b"' })}[admin]\ntoken = "xxxxxxxxxxxxxxxx\${V}"`;
        const says = `refers to \${V}, whose value ${problem}`;
        const places = [`${AT}.secret_access_key`, `${AT}.ca_file`, 'admin.token'];
        assert.deepEqual(mistakes(text, { V: value }).toSorted(), places.map((place) => `${place} ${says}`).toSorted());
      }
    });

    it('refuses `${` without its end', () => {
      for (const text of ['${SECRET', 'a${', '${SECRET}${'])
        assert.deepEqual(mistakes(sns({ secret_access_key: `"${text}"` }), environment), [
          `${AT}.secret_access_key has \${ without a } after it; $\${ stands for \${ itself`,
        ]);
    });

    it('does not resolve inherited properties such as constructor as variables', () => {
      for (const name of ['constructor', 'toString', '__proto__'])
        assert.deepEqual(mistakes(sns({ secret_access_key: `"\${${name}}"` }), {}), [
          `${AT}.secret_access_key refers to \${${name}}, which is not set in the environment`,
        ]);
    });

    it("does not expand `${` inside a variable's value", () => {
      const nested = { A: '${B}', B: 'no' };
      assert.equal(snsOf(sns({ secret_access_key: '"${A}"' }), nested).secret_access_key, '${B}');
    });

    it('names each variable that is not set, once and with its option', () => {
      const text = sns({ account_id: '"${NO}"', attributes: '["host", "${NEITHER}"]', secret_access_key: '"x${}y"' });
      assert.deepEqual(mistakes(text, environment), [
        `${AT}.secret_access_key refers to \${}, which is not set in the environment`,
        `${AT}.account_id refers to \${NO}, which is not set in the environment`,
        `${AT}.attributes[1] refers to \${NEITHER}, which is not set in the environment`,
      ]);
    });

    it('does not replace variables in sections that are not ours', () => {
      assert.deepEqual(parse(`[general]\nx = "\${UNKNOWN}"\n${sns()}`).variables, []);
      assert.deepEqual(parse(`[general]\nx = "\${UNKNOWN}"\n${sns()}`).ignored, ['general']);
    });
  });

  describe('of lengths of time', () => {
    for (const [written, ms] of [
      ['90s', 90_000],
      ['15m', 900_000],
      ['7d', 604_800_000],
      ['off', 0],
    ] as const)
      it(`takes "${written}"`, () => assert.equal(parse(`${sns()}\n[trace]\nkeep = "${written}"`).trace.keep, ms));

    for (const written of ['"1w"', '"0s"', '"-1h"', '"1.5h"', '""', '"1 h"', '60', '"99999999d"'])
      it(`refuses ${written}`, () => {
        const [mistake, ...others] = mistakes(`${sns()}\n[trace]\nkeep = ${written}`);
        assert.deepEqual(others, []);
        assert.match(String(mistake), /^trace\.keep is .*, should be a length of time such as "90s"/);
      });
  });

  describe('of keys and secrets', () => {
    it('refuses a secret with a character that no header can carry, and names the character only', () => {
      for (const [written, problem] of [
        ['"""\nhidden0123456789\n"""', 'ends in U+000A (a newline)'],
        ['"hidden0123456789 "', 'ends in U+0020 (a space)'],
        ['"hid\u00fcden0123456789"', 'has U+00FC inside'],
        ['"\ufeffhidden0123456789"', 'begins with U+FEFF (a byte order mark)'],
      ] as const) {
        const keys = sns({ access_key_id: written, secret_access_key: written });
        const text = keys + section('tap.http', { secret: written }) + section('admin', { token: written });
        const places = [`${AT}.access_key_id`, `${AT}.secret_access_key`, 'tap.http.secret', 'admin.token'];
        assert.deepEqual(
          mistakes(text),
          places.map((place) => `${place} ${problem}`),
        );
      }
      assert.deepEqual(mistakes(sns({ secret_access_key: '"in side"' })), [
        `${AT}.secret_access_key has U+0020 (a space) inside`,
      ]);
      assert.equal(parse(http({ secret: '"in side"' })).tap.http.secret, 'in side');
    });
  });

  describe('never shows', () => {
    it('never shows a secret, whatever is wrong with it', () => {
      for (const value of ['["hidden"]', '12345', 'true', '{ hidden = 1 }']) {
        const { message } = faultOf(`${sns({ secret_access_key: value })}[tap.http]\nsecret = ${value}\n`);
        assert.doesNotMatch(message, /hidden|12345|true/);
        assert.match(message, /secret_access_key is a \w+, should be the secret of that access key, not empty/);
        assert.match(message, /tap\.http\.secret is a \w+, should be the secret that the adapters send, not empty/);
      }
      assert.deepEqual(mistakes(sns({ secret_access_key: '""' })), [
        `${AT}.secret_access_key is a string that is empty, should be the secret of that access key, not empty`,
      ]);
    });

    it("never shows an environment variable's value, in whatever option it was used", () => {
      assert.deepEqual(mistakes(sns({ account_id: '"${SECRET}"' }), { SECRET: 'hidden' }), [
        `${AT}.account_id is "\${SECRET}" from the environment, should be an AWS account number: 12 digits, in quotes`,
      ]);
    });

    it('names a variable that is empty, of a secret too', () => {
      assert.deepEqual(mistakes(sns({ secret_access_key: '"${SECRET}"' }), { SECRET: '' }), [
        `${AT}.secret_access_key is \${SECRET}, which is empty in the environment, should be the secret of that access key, not empty`,
      ]);
    });

    it('shows the place, not the text, of a TOML error', () => {
      const { code, message } = faultOf(`${sns({ secret_access_key: '"hidden' })}`);
      assert.equal(code, 'CONFIG_UNREADABLE');
      assert.match(message, /^\/etc\/pusher\/pusher\.toml:5:\d+: not valid TOML: [^\n]+$/);
      assert.doesNotMatch(message, /hidden/);
    });
  });

  it('reads a file, and keeps its absolute path', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'config-'));
    const file = path.join(folder, 'pusher.toml');
    await writeFile(file, sns({ secret_access_key: '"${LOAD_TEST}"' }));
    const relative = path.relative(process.cwd(), file);
    const config = loadConfig(relative, { LOAD_TEST: 'x' });
    assert.equal(config.file, file);
    assert.equal(config.sns?.secret_access_key, 'x');
    await rm(folder, { recursive: true });
    assert.throws(() => loadConfig(relative), {
      code: 'CONFIG_UNREADABLE',
      message: new RegExp(`^can't read the configuration ${relative.replaceAll('.', '\\.')}: ENOENT`),
    });
  });

  it('refuses a file that is not UTF-8 with the line, and accepts a byte order mark', async () => {
    await using folder = await mkdtempDisposable(path.join(tmpdir(), 'config-'));
    const file = path.join(folder.path, 'pusher.toml');
    const notUtf8 = (line: number) => ({
      code: 'CONFIG_UNREADABLE',
      message: `${file}:${line}: not UTF-8; save the file as UTF-8`,
    });
    await writeFile(file, Buffer.from('# one\n# zwei\n# für\n', 'latin1'));
    assert.throws(() => loadConfig(file), notUtf8(3));
    await writeFile(file, Buffer.from(`\ufeff${sns()}`, 'utf16le'));
    assert.throws(() => loadConfig(file), notUtf8(1));
    await writeFile(file, Buffer.from(`${sns()}# \u{1F389}`).subarray(0, -1));
    assert.throws(() => loadConfig(file), { code: 'CONFIG_UNREADABLE' });
    await writeFile(file, `\ufeff${sns()}`);
    assert.equal(loadConfig(file).sns?.region, 'eu-west-1');
  });
});
