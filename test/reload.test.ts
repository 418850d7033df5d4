/**
 * A reload by SIGHUP: what a running daemon applies, seen in its behaviour. test/sns.test.ts has topics and plugins.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { Agent, request } from 'undici';
import type { NotReady } from '../src/readiness.ts';
import { makeCertificate } from './support/certificate.ts';
import { createDaemon, type Daemon, SECRET } from './support/daemon.ts';
import { until } from './support/process.ts';
import { type StubSns, startStubSns } from './support/stub-sns.ts';

describe('a reload', () => {
  let sns: StubSns;
  let daemon: Daemon;
  let accepted: string[];
  let seq: number;
  let failing: boolean;
  before(async () => {
    sns = await startStubSns({
      accepted: ({ message }) => accepted.push(JSON.parse(message).message),
      fault: () => (failing ? { kind: 'error', status: 404, code: 'NotFound' } : undefined),
    });
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(async () => {
    accepted = [];
    seq = 1;
    failing = false;
    daemon = await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' }, { here: true });
  });
  afterEach(() => daemon[Symbol.asyncDispose]());

  const post = async (count: number) => {
    const message = { kind: 'message', at: Date.now(), host: 'localhost', type: 'chat', to: 'bob@localhost' };
    const numbers = Array.from({ length: count }, (_, n) => seq + n);
    const events = numbers.map((n) => ({ ...message, from: `user${n}@localhost/phone`, body: `m${n}` }));
    const { status } = await daemon.post({ source: 's', epoch: 'e', first_seq: seq, events });
    assert.equal(status, 200);
    seq += count;
  };
  const sent = () => new Set(accepted).size;
  const reloads = () => daemon.output().split('"msg":"reloaded').length - 1;
  const reloaded = async () => {
    const before = reloads();
    await daemon.reload();
    await until('the reload', () => reloads() > before);
  };
  const reload = async (...configuration: Parameters<Daemon['configure']>) => {
    await daemon.configure(...configuration);
    await reloaded();
  };
  const edit = async (change: (text: string) => string) => {
    await writeFile(daemon.configFile, change(await readFile(daemon.configFile, 'utf8')));
    await reloaded();
  };
  /** The fingerprint of the certificate that the tap serves. */
  const served = async () => {
    const socket = tls.connect({
      host: '127.0.0.1',
      port: Number(new URL(daemon.tapUrl).port),
      rejectUnauthorized: false,
    });
    await once(socket, 'secureConnect');
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };

  it('a reload applies a lower and a higher rate', async () => {
    await daemon.start();
    await post(100);
    await until('all without a cap', () => sent() === 100);

    await reload({ sns: 'max_messages_per_second = 1' });
    const since = performance.now();
    await post(200);
    await until('some behind the first batch', () => sent() >= 112, 60_000);
    // Ten at once, then one per second; a slow machine sends fewer.
    const most = 100 + 10 + (performance.now() - since) / 1_000;
    assert.ok(sent() <= most + 1, `${sent()} were sent, at most ${most}`);

    // At the old rate the rest would take three minutes.
    await reload({ sns: 'max_messages_per_second = 100000' });
    await until('all at the new rate', () => sent() === 300, 60_000);
    assert.deepEqual(accepted.toSorted(), [...new Set(accepted)].toSorted(), 'nothing twice');
  });

  it('a reload applies a lower and a higher log level', async () => {
    await daemon.start();
    let times = 0;
    /** From a new address each time: such lines are logged once a minute per address. */
    const complain = async () => {
      const dispatcher = new Agent({ localAddress: `127.0.2.${++times}` });
      for (const authorization of [`Bearer ${SECRET}`, 'Bearer wrong']) {
        const headers = { 'content-type': 'application/json', authorization };
        const { body } = await request(daemon.tapUrl, { dispatcher, method: 'POST', headers, body: 'not JSON' });
        await body.dump();
      }
      await dispatcher.close();
    };
    const lines = (text: string) => daemon.output().split(text).length - 1;
    await complain();
    await until('both lines', () => lines('not JSON') === 1 && lines('wrong secret') === 1);

    await daemon.configure({ rest: '[log]\nlevel = "error"' });
    await daemon.reload();
    // The reload's own lines are below this level too.
    await until('warnings to end', async () => {
      const [warnings, errors] = [lines('not JSON'), lines('wrong secret')];
      await complain();
      await until('the error', () => lines('wrong secret') > errors);
      return lines('not JSON') === warnings;
    });
    assert.equal(reloads(), 0);

    await reload({ rest: '[log]\nlevel = "info"' });
    const before = lines('not JSON');
    await complain();
    await until('the warning', () => lines('not JSON') > before);
  });

  it('a reload names each section that needs a restart, at any log level', async () => {
    await daemon.start();
    const sections = () =>
      daemon
        .output()
        .match(/"sections":\[.*?\](?=,"msg":"reloaded; )/g)
        ?.at(-1);
    await reload({ rest: 'token = "a-token-for-the-console"' });
    assert.equal(sections(), '"sections":["admin"]');
    await edit((text) => text.replace('secret = "tap-secret"', 'secret = "another"'));
    assert.equal(sections(), '"sections":["tap.http","admin"]');
    await reload({ outbox: 'max_bytes = 2_000_000', rest: '[log]\nlevel = "error"' });
    assert.equal(sections(), '"sections":["outbox"]');
  });

  it('names the environment variables used in the configuration, and keeps their values', async () => {
    const refer = (text: string) => text.replace(/access_key_id = ".*"/, 'access_key_id = "${KEY_FOR_RELOAD}"');
    await daemon.start({ env: { KEY_FOR_RELOAD: 'AKIAIOSFODNN7EXAMPLE' } });
    await reload({});
    assert.ok(!daemon.output().includes('"variables"'));
    await edit(refer);
    assert.match(
      daemon.output(),
      /"variables":\["KEY_FOR_RELOAD"\],"msg":"these variables keep the values from the start/,
    );
  });

  it('a reload applies a renewed certificate, and refuses an invalid one', async () => {
    await makeCertificate(daemon.folder, 'IP:127.0.0.1');
    const https = { tap: 'tls_cert = "cert.pem"\ntls_key = "key.pem"' };
    await daemon.configure(https);
    await daemon.start();
    const { cert } = await makeCertificate(daemon.folder, 'IP:127.0.0.1');
    const renewed = new X509Certificate(cert).fingerprint256;
    assert.notEqual(await served(), renewed);
    await reload(https);
    assert.equal(await served(), renewed);
    assert.ok(!daemon.output().includes('need a restart'));

    await writeFile(path.join(daemon.folder, 'cert.pem'), 'none');
    await daemon.reload();
    await until('the refusal', () =>
      daemon.output().includes('reload failed; the previous configuration stays in use'),
    );
    assert.equal(await served(), renewed);
  });

  it('publishes the backlog of an account that is configured again; until then readiness names its topic', async () => {
    failing = true;
    await daemon.start();
    await post(1);
    const ready = async () => (await (await fetch(`${daemon.adminUrl}/readyz`)).json()) as { reasons?: NotReady[] };
    await until(
      'the pause',
      async () => (await ready()).reasons?.some(({ reason }) => /^paused/.test(reason)) ?? false,
    );
    await edit((text) => text.replace('account_id = "123456789012"', 'account_id = "210987654321"'));
    failing = false;
    const { reasons = [] } = await ready();
    assert.deepEqual(
      reasons.map(({ what, reason }) => `${what} ${reason}`),
      [
        'topic arn:aws:sns:eu-west-1:123456789012:user_message_sent has notifications that nobody sends: no section has its account and region',
      ],
    );
    assert.match(String(reasons[0]?.advice), /account_id, and reload$/);
    await reload({});
    await until('it to be sent', () => sent() === 1);
    await until('the daemon to be ready', async () => (await ready()).reasons === undefined);
  });

  it('repeated reloads lose nothing and send nothing twice', async () => {
    await daemon.start();
    let goesOn = true;
    const flowing = (async () => {
      while (goesOn) {
        await post(20);
        await sleep(5);
      }
    })();
    for (const rate of [1_000, 900, 800, 700, 100_000]) await reload({ sns: `max_messages_per_second = ${rate}` });
    goesOn = false;
    await flowing;
    await until('all to arrive', () => sent() === seq - 1, 60_000);
    assert.equal(accepted.length, seq - 1, 'nothing twice');
  });
});
