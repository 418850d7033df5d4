/**
 * The Dockerfile, checked by a linter and by the files it copies. No image is built, which would need a Docker engine.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { validate } from 'dockerfile-utils';
import { createDaemon, TOPICS } from '../support/daemon.ts';
import { ROOT, readDeployed } from '../support/deploy.ts';
import { startSns } from '../support/sns.ts';

describe('Dockerfile', () => {
  interface Instruction {
    name: string;
    rest: string;
  }

  async function instructions(): Promise<Instruction[]> {
    const text = (await readDeployed('docker/Dockerfile')).replaceAll(/^#.*\n/gm, '').replaceAll(/\\\n\s*/g, '');
    return text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => {
        const [, name = '', rest = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
        return { name, rest };
      });
  }
  const of = (list: Instruction[], name: string) => list.filter((each) => each.name === name).map(({ rest }) => rest);

  it('the Dockerfile passes the linter', async () => {
    const faults = (text: string) => validate(text).map(({ message }) => message);
    assert.deepEqual(faults(await readDeployed('docker/Dockerfile')), []);
    assert.deepEqual(faults('FROM node\nRUM true\nCOPY --form=build a b\nWORKDIR app\n'), [
      'Unknown instruction: RUM',
      'Unknown flag: form',
      'WORKDIR paths should be absolute',
    ]);
  });

  it('the Dockerfile copies only existing files that its .dockerignore allows', async () => {
    const let_through = (await readDeployed('docker/Dockerfile.dockerignore'))
      .split('\n')
      .filter((line) => line.startsWith('!'));
    for (const copy of of(await instructions(), 'COPY')) {
      const words = copy.split(/\s+/);
      if (words[0]?.startsWith('--from=')) continue;
      for (const source of words.slice(0, -1)) {
        assert.ok(existsSync(path.join(ROOT, source)), `${source} does not exist`);
        assert.ok(let_through.includes(`!${source}`), `${source} is ignored`);
      }
    }
  });

  it('runs the command directly, without a shell, as a numbered user other than root', async () => {
    const list = await instructions();
    const last = list.slice(list.findLastIndex(({ name }) => name === 'FROM'));
    assert.match(of(last, 'USER').at(-1) ?? '', /^[1-9]\d+:[1-9]\d+$/);
    // The same command that `docker exec` finds on the PATH.
    assert.deepEqual(JSON.parse(of(last, 'ENTRYPOINT')[0] ?? ''), ['xmpp-event-pusher']);
    assert.match(
      of(last, 'RUN').join('\n'),
      /ln -s \/app\/bin\/xmpp-event-pusher \/usr\/local\/bin\/xmpp-event-pusher$/m,
    );
    assert.deepEqual(JSON.parse(of(last, 'CMD')[0] ?? '')[0], 'run');
    for (const from of of(list, 'FROM')) assert.doesNotMatch(from, /latest|\/\//);
  });

  it('uses a Node.js that the package allows', async () => {
    const { engines } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
    const [node = ''] = of(await instructions(), 'ARG');
    assert.ok(Number(node.replace('NODE=', '')) >= Number(engines.node.replace('>=', '')));
  });

  it('the health check distinguishes a daemon that answers from one that does not', async () => {
    const [check = ''] = of(await instructions(), 'HEALTHCHECK');
    const [command, ...args] = JSON.parse(check.slice(check.indexOf('['))) as string[];
    assert.equal(command, 'node');
    await using sns = await startSns(Object.values(TOPICS));
    await using daemon = await createDaemon(sns);
    await daemon.start();
    const at = args.map((arg) => arg.replace('http://127.0.0.1:5291', daemon.adminUrl));
    await promisify(execFile)(process.execPath, at);
    await daemon.stop();
    await assert.rejects(promisify(execFile)(process.execPath, at), { code: 1 });
  });
});
