/**
 * What is handed to systemd, Docker, Kubernetes and CloudFormation: checked by their own tools where those run without
 * a service behind them, and against the daemon otherwise.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isScalar, parseAllDocuments, parseDocument, parse as parseYaml, visit } from 'yaml';
import { leastPolicy } from '../src/cli/iam-policy.ts';
import { parseConfig } from '../src/config/load.ts';
import { BIN, createDaemon, TOPICS } from './support/daemon.ts';
import { launch, until } from './support/process.ts';
import { startSns } from './support/sns.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const read = (name: string) => readFile(path.join(ROOT, 'deploy', name), 'utf8');

async function temporary(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pusher-deploy-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

/** Runs a command; answers what it wrote, and fails when it fails. */
function run(command: string, args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  assert.ifError(error);
  assert.equal(status, 0, `${command} ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

describe('systemd unit', () => {
  it('is valid (systemd-analyze verify)', async (t) => {
    const unit = path.join(await temporary(t), 'xmpp-event-pusher.service');
    // The command is not installed on a machine that runs tests, so that of the checkout stands in for it.
    const here = `ExecStart=${process.execPath} ${BIN} `;
    await writeFile(unit, (await read('systemd/xmpp-event-pusher.service')).replace(/^ExecStart=\S+ /m, here));
    assert.equal(run('systemd-analyze', ['verify', '--man=no', unit]), '');
  });

  it('is exposed to at most 2.0 (systemd-analyze security)', () => {
    const unit = path.join(ROOT, 'deploy/systemd/xmpp-event-pusher.service');
    // In tenths; it fails above that.
    const report = run('systemd-analyze', ['security', '--offline=yes', '--threshold=20', unit]);
    assert.match(report, /Overall exposure level/);
  });

  it('waits for the daemon, and restarts it when it gives no sign of life', async () => {
    const unit = await read('systemd/xmpp-event-pusher.service');
    for (const line of ['Type=notify', 'NotifyAccess=all', 'DynamicUser=yes', 'StateDirectory=xmpp-event-pusher'])
      assert.ok(unit.includes(`\n${line}\n`), line);
    assert.match(unit, /\nWatchdogSec=\d+\n/);
  });

  it('comes with a configuration that needs nothing but the variables beside it', async () => {
    const lines = (await read('systemd/environment.example')).split('\n').filter((line) => /^\w+=/.test(line));
    const environment = Object.fromEntries(lines.map((line) => line.split('=', 2)));
    const config = parseConfig(await read('systemd/pusher.toml'), '/etc/xmpp-event-pusher/pusher.toml', environment);
    assert.equal(config.outbox.path, '/var/lib/xmpp-event-pusher/outbox.db');
  });
});

describe('the daemon under systemd', () => {
  /** A datagram socket as systemd's, which Node.js can't make: what comes is printed, each message behind a line "--". */
  const LISTENER = `use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die;
    $| = 1; print "listening\\n"; while (1) { recv($s, my $m, 8192, 0); print "--\\n$m\\n"; }`;

  it('tells when it is ready, reloads, lives and stops', async (t) => {
    const folder = await temporary(t);
    const socket = path.join(folder, 'notify');
    const systemd = await launch('perl', ['-e', LISTENER, socket]);
    t.after(() => systemd.end('SIGKILL'));
    await until('the socket', () => systemd.output().includes('listening'));
    const said = () =>
      systemd
        .output()
        .split('--\n')
        .slice(1)
        .map((message) => message.trim())
        .filter((message) => message !== 'BARRIER=1');
    const count = (start: string) => said().filter((message) => message.startsWith(start)).length;

    await using sns = await startSns(Object.values(TOPICS));
    await using daemon = await createDaemon(sns);
    const env = { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '600000' };
    const child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile], { env });
    t.after(() => child.end('SIGKILL'));
    await until('readiness', () => count('READY=1') === 1);
    assert.equal((await daemon.post({ source: 's', events: [] })).status, 200, 'ready before the tap listens');
    assert.match(said()[0] ?? '', /^READY=1\nSTATUS=ready$/);
    await until('signs of life', () => count('WATCHDOG=1') >= 2);

    process.kill(child.pid, 'SIGHUP');
    await until('the end of the reload', () => count('READY=1') === 2);
    const reloading = said().findIndex((message) => /^RELOADING=1\nMONOTONIC_USEC=\d+$/.test(message));
    assert.ok(reloading > 0 && said().findLastIndex((message) => message.startsWith('READY=1')) > reloading);

    await child.end('SIGTERM');
    await until('the stop', () => count('STOPPING=1') === 1);
  });
});

describe('Dockerfile', () => {
  interface Instruction {
    name: string;
    rest: string;
  }

  async function instructions(): Promise<Instruction[]> {
    const text = (await read('docker/Dockerfile')).replaceAll(/^#.*\n/gm, '').replaceAll(/\\\n\s*/g, '');
    return text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => {
        const [, name = '', rest = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
        return { name, rest };
      });
  }
  const of = (list: Instruction[], name: string) => list.filter((each) => each.name === name).map(({ rest }) => rest);

  it('consists of instructions that Docker knows, the final image after the last FROM', async () => {
    const known = 'ARG FROM WORKDIR COPY RUN ENV VOLUME USER EXPOSE HEALTHCHECK ENTRYPOINT CMD'.split(' ');
    for (const { name, rest } of await instructions()) assert.ok(known.includes(name), `${name} ${rest}`);
  });

  it('copies only what there is, and what its .dockerignore lets through', async () => {
    const let_through = (await read('docker/Dockerfile.dockerignore'))
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

  it('runs the command as a numbered user that is not root, directly and not through a shell', async () => {
    const list = await instructions();
    const last = list.slice(list.findLastIndex(({ name }) => name === 'FROM'));
    assert.match(of(last, 'USER').at(-1) ?? '', /^[1-9]\d+:[1-9]\d+$/);
    // With the flags of its first line, which nothing reads when node is called by name.
    const [first = ''] = (await readFile(path.join(ROOT, 'bin/xmpp-event-pusher.js'), 'utf8')).split('\n');
    const flags = first.split(' ').filter((word) => word.startsWith('--'));
    const entry = ['node', ...flags, '/app/bin/xmpp-event-pusher.js'];
    assert.deepEqual(JSON.parse(of(last, 'ENTRYPOINT')[0] ?? ''), entry);
    assert.ok(flags.length > 0);
    assert.deepEqual(JSON.parse(of(last, 'CMD')[0] ?? '')[0], 'run');
    for (const from of of(list, 'FROM')) assert.doesNotMatch(from, /latest|\/\//);
  });

  it('takes a Node.js that the package allows', async () => {
    const { engines } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
    const [node = ''] = of(await instructions(), 'ARG');
    assert.ok(Number(node.replace('NODE=', '')) >= Number(engines.node.replace('>=', '')));
  });

  it('has a healthcheck that tells a daemon that answers from one that does not', async () => {
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

interface Manifest {
  kind: string;
  metadata: { name: string };
  data?: Record<string, string>;
  spec: {
    selector: Record<string, string> & { matchLabels?: Record<string, string> };
    ports: { name: string; targetPort: string }[];
    template: { metadata: { labels: Record<string, string> }; spec: Pod };
    volumeClaimTemplates: { metadata: { name: string } }[];
  };
}

interface Pod {
  securityContext: Record<string, unknown>;
  volumes: { name: string; configMap: { name: string } }[];
  containers: {
    ports: { name: string; containerPort: number }[];
    volumeMounts: { name: string; mountPath: string }[];
    securityContext: Record<string, unknown>;
    startupProbe: { httpGet: { path: string; port: string } };
    livenessProbe: { httpGet: { path: string; port: string } };
    readinessProbe: { tcpSocket: { port: string } };
    resources: { limits: { memory: string } };
  }[];
}

describe('Kubernetes manifest', () => {
  async function manifests(): Promise<(kind: string) => Manifest> {
    const documents = parseAllDocuments(await read('kubernetes/xmpp-event-pusher.yaml'), { uniqueKeys: true });
    const list = [...documents].map((document) => {
      assert.deepEqual(document.errors, []);
      return document.toJS() as Manifest;
    });
    return (kind) => {
      const found = list.find((each) => each.kind === kind);
      assert.ok(found, kind);
      return found;
    };
  }

  it('has a configuration that the daemon takes, with ports and folders as the pod has them', async () => {
    const manifest = await manifests();
    const text = manifest('ConfigMap').data?.['pusher.toml'] ?? '';
    const environment = { TAP_SECRET: 'tap-secret', ADMIN_TOKEN: 'admin-token-long-enough' };
    const config = parseConfig(text, '/etc/xmpp-event-pusher/pusher.toml', environment);
    const [container] = manifest('StatefulSet').spec.template.spec.containers;
    const port = (name: string) => container?.ports.find((each) => each.name === name)?.containerPort;
    assert.equal(config.tap.http.listen.port, port('tap'));
    assert.equal(config.admin.listen.port, port('admin'));
    for (const { host } of [config.tap.http.listen, config.admin.listen]) assert.equal(host, '0.0.0.0');
    const mounts = container?.volumeMounts.map(({ mountPath }) => mountPath);
    assert.deepEqual(mounts, [path.dirname(config.outbox.path), path.dirname(config.file)]);
  });

  it('refers only to what it has: ports, volumes, labels', async () => {
    const manifest = await manifests();
    const { selector, template, volumeClaimTemplates } = manifest('StatefulSet').spec;
    assert.deepEqual(selector.matchLabels, template.metadata.labels);
    assert.deepEqual(manifest('Service').spec.selector, template.metadata.labels);
    const [container] = template.spec.containers;
    const ports = container?.ports.map(({ name }) => name) ?? [];
    for (const { targetPort } of manifest('Service').spec.ports) assert.ok(ports.includes(targetPort), targetPort);
    const volumes = [
      ...template.spec.volumes.map(({ name }) => name),
      ...volumeClaimTemplates.map((v) => v.metadata.name),
    ];
    for (const { name } of container?.volumeMounts ?? []) assert.ok(volumes.includes(name), name);
    assert.equal(template.spec.volumes[0]?.configMap.name, manifest('ConfigMap').metadata.name);
  });

  it('gives the daemon no more than it needs', async () => {
    const { securityContext: pod, containers } = (await manifests())('StatefulSet').spec.template.spec;
    const [container] = containers;
    assert.equal(pod.runAsNonRoot, true);
    assert.equal(pod.runAsUser, 10001);
    assert.deepEqual(pod.seccompProfile, { type: 'RuntimeDefault' });
    assert.deepEqual(container?.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    assert.ok(container.resources.limits.memory);
  });

  it('asks for life at /healthz, and for readiness at the tap and not at /readyz', async () => {
    const [container] = (await manifests())('StatefulSet').spec.template.spec.containers;
    assert.deepEqual(container?.livenessProbe.httpGet, { path: '/healthz', port: 'admin' });
    assert.deepEqual(container?.startupProbe.httpGet, { path: '/healthz', port: 'admin' });
    assert.deepEqual(container?.readinessProbe.tcpSocket, { port: 'tap' });
  });
});

interface Template {
  AWSTemplateFormatVersion: string;
  Parameters: Record<string, { Type: string; Default?: string }>;
  Resources: Record<string, { Type: string; DependsOn?: string; Properties: Record<string, unknown> }>;
  Outputs: Record<string, { Value: unknown }>;
}

describe('CloudFormation template', () => {
  const TAGS = ['Ref', 'GetAtt', 'Sub'];

  /** The template with `!Ref X` as `{ Ref: 'X' }`, as CloudFormation itself reads it. */
  async function template(): Promise<Template> {
    const customTags = TAGS.map((name) => ({ tag: `!${name}`, resolve: (value: string) => value }));
    const document = parseDocument(await read('cloudformation/topics.yaml'), { customTags });
    assert.deepEqual([document.errors, document.warnings], [[], []]);
    visit(document, {
      Scalar(_, node) {
        const name = node.tag?.slice(1) ?? '';
        if (!TAGS.includes(name) || !isScalar(node)) return undefined;
        const value = { [name === 'Ref' ? 'Ref' : `Fn::${name}`]: node.value };
        return document.createNode(value);
      },
    });
    return document.toJS() as Template;
  }

  const properties = async (type: string) =>
    Object.values((await template()).Resources)
      .filter((resource) => resource.Type === type)
      .map((resource) => resource.Properties);

  it('refers only to what it has', async () => {
    const whole = await template();
    const names = [...Object.keys(whole.Parameters), ...Object.keys(whole.Resources), 'AWS::AccountId', 'AWS::Region'];
    const text = JSON.stringify(whole);
    const refs = [...text.matchAll(/"(?:Ref|Fn::GetAtt)":"([^".]+)/g)].map(([, name]) => name ?? '');
    assert.ok(refs.length > 20);
    for (const name of refs) assert.ok(names.includes(name), name);
    for (const { DependsOn } of Object.values(whole.Resources))
      if (DependsOn) assert.ok(whole.Resources[DependsOn], DependsOn);
    for (const name of Object.keys(whole.Parameters)) assert.ok(refs.includes(name), `${name} is not used`);
  });

  it('makes the topics that the example configurations name', async () => {
    const { Parameters } = await template();
    const environment = new Proxy({}, { get: () => 'a-secret-long-enough' });
    const { sns } = parseConfig(await read('systemd/pusher.toml'), '/x/pusher.toml', environment);
    assert.deepEqual(
      Object.values(Parameters).map((parameter) => parameter.Default),
      [sns?.presence_updates_topic, sns?.pm_messages_topic, sns?.muc_messages_topic],
    );
    assert.equal((await properties('AWS::SNS::Topic')).length, 3);
  });

  it('allows the publisher what iam-policy prints', async () => {
    const [policy] = await properties('AWS::IAM::ManagedPolicy');
    const refs = ['PresenceTopic', 'PrivateMessageTopic', 'GroupMessageTopic'].map((Ref) => ({ Ref }));
    const expected = leastPolicy({ topics: [] });
    assert.deepEqual(policy?.PolicyDocument, {
      ...expected,
      Statement: expected.Statement.map((statement) => ({ ...statement, Resource: refs })),
    });
  });

  it('subscribes the queue to each topic, with a dead-letter queue behind both', async () => {
    const queue = { 'Fn::GetAtt': 'ConsumerQueue.Arn' };
    const deadLetters = { 'Fn::GetAtt': 'ConsumerDeadLetterQueue.Arn' };
    const subscriptions = await properties('AWS::SNS::Subscription');
    assert.equal(subscriptions.length, 3);
    for (const { Endpoint, RedrivePolicy, Protocol } of subscriptions) {
      assert.deepEqual([Endpoint, Protocol], [queue, 'sqs']);
      assert.deepEqual(RedrivePolicy, { deadLetterTargetArn: deadLetters });
    }
    const [consumer] = await properties('AWS::SQS::Queue');
    assert.deepEqual(consumer?.RedrivePolicy, { deadLetterTargetArn: deadLetters, maxReceiveCount: 5 });
    const [policy] = (await properties('AWS::SQS::QueuePolicy')) as unknown as {
      PolicyDocument: { Statement: { Principal: unknown; Resource: unknown; Condition: unknown }[] };
    }[];
    const [statement] = policy?.PolicyDocument.Statement ?? [];
    assert.deepEqual(statement?.Principal, { Service: 'sns.amazonaws.com' });
    assert.deepEqual(statement?.Resource, [queue, deadLetters]);
    const sources = ['PresenceTopic', 'PrivateMessageTopic', 'GroupMessageTopic'].map((Ref) => ({ Ref }));
    assert.deepEqual(statement?.Condition, { ArnEquals: { 'aws:SourceArn': sources } });
  });
});

describe('every YAML file below deploy', () => {
  it('says each key once', async () => {
    for (const name of ['prometheus/alerts.yml', 'prometheus/prometheus.yml', 'prometheus/alerts.test.yml'])
      assert.ok(parseYaml(await read(name), { uniqueKeys: true }), name);
  });
});
