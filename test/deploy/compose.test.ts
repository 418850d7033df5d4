/**
 * The files for Docker Compose, checked by the specification's schema and a linter, and by running the services' parts
 * without Docker: no image is built here.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { validate } from 'dockerfile-utils';
import { parse } from 'yaml';
import { BIN } from '../support/daemon.ts';
import { ROOT, readDeployed } from '../support/deploy.ts';
import { freePorts, launch, type Process, until, untilListening } from '../support/process.ts';
import { password } from '../support/server.ts';
import { connect, message } from '../support/xmpp.ts';

interface Service {
  readonly build: { readonly context: string; readonly dockerfile: string };
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly volumes?: readonly string[];
  readonly command?: readonly string[];
}

const FOLDER = path.join(ROOT, 'deploy/compose');
const composed = async () => parse(await readDeployed('compose/compose.yaml')) as { services: Record<string, Service> };
const dockerfile = ({ build }: Service) => path.join(path.resolve(FOLDER, build.context), build.dockerfile);

/** The linter's findings in a file; the linter has the specification's schema. */
async function lint(file: string): Promise<string> {
  const dclint = path.join(ROOT, 'node_modules/dclint/bin/dclint.cjs');
  const args = [dclint, '--max-warnings', '0', file];
  return promisify(execFile)(process.execPath, args).then(
    () => '',
    ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr,
  );
}

describe('compose file', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'compose-'));
    // If root runs the tests, Prosody runs as another user.
    await chmod(folder, 0o755);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('the compose file follows the specification', async () => {
    assert.equal(await lint(path.join(FOLDER, 'compose.yaml')), '');
    const mistaken = (await readDeployed('compose/compose.yaml')).replace('stop_grace_period', 'stop_grace_periode');
    await writeFile(path.join(folder, 'compose.yaml'), mistaken);
    assert.match(
      await lint(path.join(folder, 'compose.yaml')),
      /services\/pusher.*must NOT have additional properties/,
    );
  });

  it("the demo's Dockerfiles pass the linter and copy existing files", async () => {
    for (const [name, service] of Object.entries((await composed()).services)) {
      const text = await readFile(dockerfile(service), 'utf8');
      assert.deepEqual(validate(text), [], name);
      const context = path.resolve(FOLDER, service.build.context);
      for (const [, words = ''] of text.matchAll(/^COPY (?!--from)(.*)$/gm))
        for (const source of words.split(' ').slice(0, -1)) await readFile(path.join(context, source)).catch(directory);
      for (const volume of service.volumes ?? []) {
        const [source = ''] = volume.split(':');
        if (source.startsWith('.')) await readFile(path.join(FOLDER, source));
      }
    }
    // The same SNS as in the tests.
    const { devDependencies } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
    assert.match(await readDeployed('compose/sns.Dockerfile'), new RegExp(` fauxqs@${devDependencies.fauxqs}$`, 'm'));
  });

  it("the demo's parts bring an event from a client to the subscriber", async (t) => {
    const [sns, tap, admin, c2s] = (await freePorts(4)) as [number, number, number, number];
    const processes: Process[] = [];
    t.after(async () => {
      for (const each of processes.reverse()) await each.end('SIGKILL');
    });
    const start = async (command: string, args: string[], options: Parameters<typeof launch>[2] = {}) => {
      const started = await launch(command, args, options);
      processes.push(started);
      return started;
    };
    /** Replaces services' names with this machine's addresses, and their folders with the test's. */
    const here = (text: string) =>
      text
        .replaceAll('sns:4566', `127.0.0.1:${sns}`)
        .replaceAll('pusher:5290', `127.0.0.1:${tap}`)
        .replaceAll('0.0.0.0:5290', `127.0.0.1:${tap}`)
        .replaceAll('0.0.0.0:5291', `127.0.0.1:${admin}`)
        .replaceAll('/var/lib/xmpp-event-pusher', folder)
        .replaceAll('/var/lib/prosody', path.join(folder, 'prosody'))
        .replaceAll('/usr/local/lib/prosody/modules', path.join(folder, 'modules'));
    const place = async (name: string, extra = '') => {
      const file = path.join(folder, name);
      await writeFile(file, here(await readDeployed(`compose/${name}`)) + extra);
      return file;
    };

    const cli = path.join(ROOT, 'node_modules/fauxqs/dist/cli.js');
    const env = {
      ...process.env,
      FAUXQS_PORT: String(sns),
      FAUXQS_INIT: path.join(FOLDER, 'init.json'),
      FAUXQS_DEFAULT_REGION: 'eu-west-1',
      FAUXQS_LOGGER: 'false',
    };
    await untilListening(await start(process.execPath, [cli], { env }), [sns]);
    const daemon = await start(process.execPath, [BIN, 'run', '--config', await place('pusher.toml')]);
    await untilListening(daemon, [tap, admin]);
    const { environment } = (await composed()).services.subscriber as unknown as { environment: { QUEUE_URL: string } };
    const subscriber = await start(process.execPath, [path.join(FOLDER, 'subscriber.js')], {
      env: { QUEUE_URL: here(environment.QUEUE_URL) },
    });

    await cp(path.join(ROOT, 'adapters/prosody'), path.join(folder, 'modules'), { recursive: true });
    const nobody = process.getuid?.() === 0 ? 65_534 : undefined;
    const listen = `\ninterfaces = { "127.0.0.1" }; c2s_ports = { ${c2s} }; c2s_direct_tls_ports = {};\n`;
    const global = await readDeployed('compose/prosody.cfg.lua');
    const config = path.join(folder, 'prosody.cfg.lua');
    await writeFile(config, here(global.replace('\nVirtualHost', `${listen}\nVirtualHost`)));
    const data = path.join(folder, 'prosody');
    const owner = { uid: nobody, gid: nobody };
    await promisify(execFile)('install', ['-d', ...(nobody ? ['-o', String(nobody), '-g', String(nobody)] : []), data]);
    for (const name of ['alice', 'bob'])
      await (await launch('prosodyctl', ['--config', config, 'register', name, 'localhost', password], owner)).exited;
    const prosody = await start('prosody', ['-F', '--config', config], { ...owner, cwd: data });
    await untilListening(prosody, [c2s]);

    const server = {
      name: 'prosody',
      host: 'localhost',
      c2sPort: c2s,
      boshUrl: '',
      webSocketUrl: '',
      register: async () => undefined,
    } as const;
    const alice = await connect(server, 'alice', 'phone');
    await message(alice, { to: 'bob@localhost', body: 'Hello, Bob' });
    const expected = '{"to_user_id":"bob@localhost","message":"Hello, Bob","from_user_id":"alice@localhost"}';
    await until('the message to be printed', () => subscriber.output().includes(expected)).catch((error: Error) => {
      throw new Error(`${error.message}\n${daemon.output()}\n${prosody.output()}\n${subscriber.output()}`);
    });
    await alice.logout();
    await until('the offline', () => subscriber.output().includes('{"user_id":"alice@localhost","present":false}'));
  });
});

/** Ignores the error for a folder. */
function directory(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EISDIR') throw error;
}
