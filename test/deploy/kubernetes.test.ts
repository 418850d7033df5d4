/**
 * The Kubernetes manifest, checked by Kubernetes' own types and by the daemon. It has not been applied to a cluster.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { StatefulSet } from 'kubernetes-types/apps/v1.js';
import type { ConfigMap, Service, ServiceAccount } from 'kubernetes-types/core/v1.js';
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.js';
import { parse, parseAllDocuments } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { version } from '../../src/version.ts';
import { ROOT, readDeployed } from '../support/deploy.ts';

interface Kinds {
  ConfigMap: ConfigMap;
  Service: Service;
  ServiceAccount: ServiceAccount;
  StatefulSet: StatefulSet;
  PodDisruptionBudget: PodDisruptionBudget;
  RabbitmqCluster: RabbitmqCluster;
}

/** The fields that we use of RabbitMQ's cluster operator, which has no TypeScript types. */
interface RabbitmqCluster {
  readonly apiVersion: string;
  readonly kind: 'RabbitmqCluster';
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: {
    readonly replicas: number;
    readonly persistence: { readonly storage: string };
    readonly resources: unknown;
    readonly rabbitmq: { readonly additionalConfig: string };
    readonly affinity: { readonly podAntiAffinity: unknown };
  };
}

const ALONE = 'xmpp-event-pusher.yaml';
const CLUSTER = 'cluster.yaml';
const readManifest = async (name: string) => manifest(await readDeployed(`kubernetes/${name}`));

async function manifest(text?: string) {
  const documents = [...parseAllDocuments(text ?? (await readDeployed(`kubernetes/${ALONE}`)))];
  const list = documents.map((document) => {
    assert.deepEqual([document.errors, document.warnings], [[], []]);
    return document.toJS() as Kinds[keyof Kinds];
  });
  const of = <Kind extends keyof Kinds>(kind: Kind): Kinds[Kind] => {
    const found = list.find((each) => each.kind === kind);
    assert.ok(found, kind);
    return found as Kinds[Kind];
  };
  const pod = of('StatefulSet').spec?.template.spec;
  const container = pod?.containers[0];
  assert.ok(container);
  return { list, of, pod, container };
}

/**
 * Compiles documents as literals of Kubernetes' types, which are generated from its OpenAPI specification. Returns the
 * compiler's errors: unknown, missing or mistyped fields. Empty if there are none.
 */
async function problemsOf(t: TestContext, list: readonly unknown[]): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pusher-kubernetes-'));
  t.after(() => rm(folder, { recursive: true }));
  const literals = list.map((document, index) => {
    const { apiVersion, kind } = document as { apiVersion: string; kind: string };
    const module = apiVersion.includes('/') ? apiVersion : `core/${apiVersion}`;
    const type = `import('kubernetes-types/${module}').${kind}`;
    return `export const document${index}: ${type} = ${JSON.stringify(document)};\n`;
  });
  await writeFile(path.join(folder, 'documents.ts'), literals.join(''));
  const paths = { 'kubernetes-types/*': [path.join(ROOT, 'node_modules/kubernetes-types/*')] };
  const compilerOptions = { strict: true, noEmit: true, module: 'preserve', types: [], paths };
  await writeFile(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['documents.ts'] }));
  const tsc = path.join(ROOT, 'node_modules/typescript/bin/tsc');
  return promisify(execFile)(process.execPath, [tsc, '--project', folder]).then(
    () => '',
    ({ stdout }: { stdout: string }) => stdout,
  );
}

describe('Kubernetes manifest', () => {
  it('the manifest has only fields that Kubernetes knows, with the right types', async (t) => {
    const { list } = await manifest();
    assert.deepEqual(
      list.map(({ kind }) => kind),
      ['ServiceAccount', 'ConfigMap', 'Service', 'StatefulSet'],
    );
    const cluster = (await readManifest(CLUSTER)).list.filter(({ kind }) => kind !== 'RabbitmqCluster');
    assert.equal(await problemsOf(t, [...list, ...cluster]), '');
    const mistaken = structuredClone(list) as [unknown, unknown, Service, { spec: { template: { spec: object } } }];
    mistaken[2].spec = { ports: [{ port: '5290' as never }] };
    mistaken[3].spec.template.spec = { containers: [{ name: 'x', livenesProbe: {} }] };
    const problems = await problemsOf(t, mistaken);
    assert.match(problems, /'string' is not assignable to type 'number'/);
    assert.match(problems, /'"?livenesProbe"?' does not exist in type 'Container'/);
  });

  it('the kustomization produces a valid manifest with its own configuration', async (t) => {
    const { stdout } = await promisify(execFile)('kubectl', ['kustomize', path.join(ROOT, 'deploy/kubernetes')]);
    const { list, of, container } = await manifest(stdout);
    assert.equal(await problemsOf(t, list), '');
    assert.equal(list.length, 4);
    for (const { metadata } of list) assert.equal(metadata?.namespace, 'chat');
    assert.equal(container.image, `images.example.org/xmpp-event-pusher:${version}`);
    const own = await readDeployed('kubernetes/pusher.toml');
    assert.deepEqual(of('ConfigMap').data, { 'pusher.toml': own });
    const environment = { TAP_SECRET: 'tap-secret-long-enough', ADMIN_TOKEN: 'admin-token-long-enough' };
    const files = [own, (await manifest()).of('ConfigMap').data?.['pusher.toml'] ?? ''];
    const [changed, base] = files.map((file) => parseConfig(file, '/etc/xmpp-event-pusher/pusher.toml', environment));
    assert.deepEqual(
      [changed?.tap, changed?.outbox, changed?.admin],
      [base?.tap, base?.outbox, base?.admin],
      'listens and writes where the manifest expects it',
    );
  });

  it('the documented commands copy the adapters to a server in another pod', async (t) => {
    const text = await readFile(path.join(ROOT, 'docs/adapters.md'), 'utf8');
    const [, fragment = ''] = /\n( {4}initContainers:\n(?: {4}.*\n)+)/.exec(text) ?? [];
    const { initContainers } = parse(fragment) as { initContainers: object[] };
    assert.equal(initContainers.length, 1);
    const pod = { apiVersion: 'v1', kind: 'Pod', spec: { containers: [{ name: 'x' }], initContainers } };
    assert.equal(await problemsOf(t, [pod]), '');
  });
});

for (const name of [ALONE, CLUSTER])
  describe(`Kubernetes manifest ${name}`, () => {
    it("the daemon accepts the manifest's configuration, with the pod's ports and folders", async () => {
      const { of, container } = await readManifest(name);
      const text = of('ConfigMap').data?.['pusher.toml'] ?? '';
      const environment = {
        TAP_SECRET: 'tap-secret-long-enough',
        ADMIN_TOKEN: 'admin-token-long-enough',
        ...Object.fromEntries(container.env?.map(({ name: variable }) => [variable, 'x']) ?? []),
      };
      const config = parseConfig(text, '/etc/xmpp-event-pusher/pusher.toml', environment);
      const port = (name: string) => container.ports?.find((each) => each.name === name)?.containerPort;
      assert.equal(config.tap.http.listen.port, port('tap'));
      assert.equal(config.admin.listen.port, port('admin'));
      for (const { host } of [config.tap.http.listen, config.admin.listen]) assert.equal(host, '0.0.0.0');
      const mounts = container.volumeMounts?.map(({ mountPath }) => mountPath);
      assert.deepEqual(mounts, [path.dirname(config.outbox.path), path.dirname(config.file)]);
    });

    it('the manifest refers only to names it defines: account, ports, volumes, labels', async () => {
      const { of, pod, container } = await readManifest(name);
      const { selector, template, serviceName, volumeClaimTemplates = [] } = of('StatefulSet').spec ?? {};
      assert.deepEqual(selector?.matchLabels, template?.metadata?.labels);
      assert.deepEqual(of('Service').spec?.selector, template?.metadata?.labels);
      assert.equal(serviceName, of('Service').metadata?.name);
      assert.equal(pod?.serviceAccountName, of('ServiceAccount').metadata?.name);
      const ports = container.ports?.map(({ name }) => name);
      for (const { targetPort } of of('Service').spec?.ports ?? [])
        assert.ok(ports?.includes(String(targetPort)), String(targetPort));
      const volumes = [...(pod?.volumes ?? []), ...volumeClaimTemplates.map(({ metadata }) => ({ ...metadata }))];
      for (const { name } of container.volumeMounts ?? [])
        assert.ok(
          volumes.some((volume) => volume.name === name),
          name,
        );
      assert.equal(pod?.volumes?.[0]?.configMap?.name, of('ConfigMap').metadata?.name);
    });

    it('gives the daemon no more rights than it needs', async () => {
      const { pod, container } = await readManifest(name);
      assert.equal(pod?.securityContext?.runAsNonRoot, true);
      assert.equal(pod?.securityContext?.runAsUser, 10001);
      assert.deepEqual(pod?.securityContext?.seccompProfile, { type: 'RuntimeDefault' });
      assert.deepEqual(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      assert.ok(container.resources?.limits?.memory);
    });

    it('checks liveness at /healthz, and readiness at the tap, not at /readyz', async () => {
      const { container } = await readManifest(name);
      assert.deepEqual(container.livenessProbe?.httpGet, { path: '/healthz', port: 'admin' });
      assert.deepEqual(container.startupProbe?.httpGet, { path: '/healthz', port: 'admin' });
      assert.deepEqual(container.readinessProbe?.tcpSocket, { port: 'tap' });
    });
  });

describe('Kubernetes manifest of three daemons', () => {
  it('the manifest for three daemons adds a broker and a disruption budget', async () => {
    const { list } = await readManifest(CLUSTER);
    assert.deepEqual(
      list.map(({ kind }) => kind),
      ['RabbitmqCluster', 'ServiceAccount', 'ConfigMap', 'Service', 'PodDisruptionBudget', 'StatefulSet'],
    );
  });

  it('a disruption leaves two of three daemons, and of three brokers on separate machines', async () => {
    const { of, pod } = await readManifest(CLUSTER);
    const { replicas, template } = of('StatefulSet').spec ?? {};
    assert.equal(replicas, 3);
    const budget = of('PodDisruptionBudget').spec;
    assert.equal(budget?.maxUnavailable, 1);
    assert.deepEqual(budget?.selector?.matchLabels, template?.metadata?.labels);
    assert.equal(pod?.topologySpreadConstraints?.[0]?.topologyKey, 'kubernetes.io/hostname');
    const { apiVersion, metadata, spec } = of('RabbitmqCluster');
    assert.equal(apiVersion, 'rabbitmq.com/v1beta1');
    assert.equal(spec.replicas, 3);
    assert.deepEqual(spec.affinity.podAntiAffinity, {
      requiredDuringSchedulingIgnoredDuringExecution: [
        {
          labelSelector: { matchLabels: { 'app.kubernetes.io/name': metadata.name } },
          topologyKey: 'kubernetes.io/hostname',
        },
      ],
    });
  });

  it("connects to that RabbitMQ as the user of its operator's secret", async () => {
    const { of, container } = await readManifest(CLUSTER);
    const { name } = of('RabbitmqCluster').metadata;
    for (const { valueFrom } of container.env ?? [])
      assert.equal(valueFrom?.secretKeyRef?.name, `${name}-default-user`);
    const text = of('ConfigMap').data?.['pusher.toml'] ?? '';
    const names = [...text.matchAll(/\$\{(\w+)\}/g)].map(([, variable = '']) => [variable, 'long-enough-for-a-secret']);
    // Includes the commented section for MongooseIM.
    const parts = [text, text.replace('# [tap.rabbitmq]', '[tap.rabbitmq]').replace('#   url', 'url')];
    for (const part of parts) {
      const { outbox, tap } = parseConfig(part, '/x/pusher.toml', Object.fromEntries(names));
      assert.equal(outbox.engine, 'rabbitmq');
      for (const url of [outbox.url, tap.rabbitmq?.url].flat()) if (url) assert.equal(new URL(url).hostname, name);
    }
  });
});
