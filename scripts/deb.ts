/**
 * Builds a Debian package with everything that the daemon needs: Node.js, npm's packages, the adapters.
 *
 * Node.js is the one pinned as npm's package `node`; for another architecture, its sister package.
 *
 * Usage: npm run deb [-- --to FOLDER] [--arch amd64|arm64]
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { COMPLETIONS } from '../src/cli/completion/command.ts';
import { treeOf } from '../src/cli/completion/tree.ts';
import { createProgram } from '../src/cli/main.ts';
import { version } from '../src/version.ts';
import { copyrightFile, productionPackages } from './deb/licenses.ts';
import { manualPage } from './deb/manual.ts';
import { install } from './install-servers.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const NAME = 'xmpp-event-pusher';

const COMMANDS = treeOf(await createProgram());
/** Debian's architectures and npm's names for them. */
const ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'x64', arm64: 'arm64' };

function run(command: string, args: readonly string[], cwd = ROOT): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`);
  return stdout;
}

/** The folder with the pinned Node.js for that architecture. */
function nodeOf(architecture: string, scratch: string): string {
  const name = `node-linux-${ARCHITECTURES[architecture]}`;
  const own = path.join(ROOT, 'node_modules/node/node_modules', name);
  if (`node-${process.platform}-${process.arch}` === name) return own;
  const { version: pinned } = JSON.parse(readFileSync(path.join(ROOT, 'node_modules/node/package.json'), 'utf8'));
  run('npm', ['pack', '--silent', '--pack-destination', scratch, `${name}@${pinned}`]);
  run('tar', ['xzf', `${name}-${pinned}.tgz`], scratch);
  return path.join(scratch, 'package');
}

/** The release's time: that of the commit, so that the same commit builds the same package. */
function released(): Date {
  const { stdout } = spawnSync('git', ['log', '-1', '--format=%ct'], { cwd: ROOT, encoding: 'utf8' });
  // The present time without git, as in an archive of the sources.
  return new Date((Number(process.env.SOURCE_DATE_EPOCH ?? stdout) || Date.now() / 1_000) * 1_000);
}

/** Creates below `stage` the files that dpkg unpacks at `/`. */
function layOut(stage: string, architecture: string, scratch: string): void {
  const at = (name: string) => {
    const file = path.join(stage, name);
    mkdirSync(path.dirname(file), { recursive: true });
    return file;
  };
  const put = (name: string, content: string | Buffer) => writeFileSync(at(name), content);
  const lib = `usr/lib/${NAME}`;
  // `init` compares with the example to tell whether a configuration is unchanged.
  for (const name of ['bin', 'dist', 'adapters', 'schemas', 'deploy/systemd/pusher.toml', 'package.json'])
    cpSync(path.join(ROOT, name), at(`${lib}/${name}`), { recursive: true, filter: isNeeded });
  const packages = productionPackages(ROOT).filter((folder) => !folder.startsWith('node_modules/@types/'));
  for (const folder of packages)
    cpSync(path.join(ROOT, folder), at(`${lib}/${folder}`), {
      recursive: true,
      filter: (file) => isNeeded(file) && isNeededOf(path.relative(path.join(ROOT, folder), file)),
    });

  const node = nodeOf(architecture, scratch);
  cpSync(path.join(node, 'bin/node'), at(`${lib}/node/node`));
  // Symbols are a fifth of its size.
  const strip = architecture === 'arm64' && process.arch !== 'arm64' ? 'aarch64-linux-gnu-strip' : 'strip';
  run(strip, [at(`${lib}/node/node`)]);

  mkdirSync(at('usr/bin'), { recursive: true });
  symlinkSync(`../lib/${NAME}/bin/${NAME}`, at(`usr/bin/${NAME}`));
  put(`usr/lib/systemd/system/${NAME}.service`, unit());
  put(`etc/${NAME}/pusher.toml`, readFileSync(path.join(ROOT, 'deploy/systemd/pusher.toml')));
  put(`etc/${NAME}/environment`, readFileSync(path.join(ROOT, 'deploy/systemd/environment.example')));

  const day = released();
  const zipped = (text: string | Buffer) => gzipSync(text, { level: 9 });
  put(`usr/share/man/man1/${NAME}.1.gz`, zipped(manualPage(COMMANDS, version, day.toISOString().slice(0, 10))));
  const places: Readonly<Record<string, string>> = {
    bash: `usr/share/bash-completion/completions/${NAME}`,
    zsh: `usr/share/zsh/vendor-completions/_${NAME}`,
    fish: `usr/share/fish/vendor_completions.d/${NAME}.fish`,
  };
  for (const [shell, make] of Object.entries(COMPLETIONS)) put(places[shell] as string, make(COMMANDS));

  const doc = `usr/share/doc/${NAME}`;
  for (const name of ['README.md', 'docs']) cpSync(path.join(ROOT, name), at(`${doc}/${name}`), { recursive: true });
  cpSync(path.join(ROOT, 'deploy/cloudformation/topics.yaml'), at(`${doc}/topics.yaml`));
  cpSync(path.join(node, 'LICENSE'), at(`${doc}/node.LICENSE`));
  put(`${doc}/changelog.gz`, zipped(changelog(day)));
  put(`${doc}/NEWS.gz`, zipped(readFileSync(path.join(ROOT, 'CHANGELOG.md'))));
  put(`${doc}/copyright`, copyrightFile(ROOT, packages));
  put(`usr/share/lintian/overrides/${NAME}`, readFileSync(path.join(ROOT, 'deploy/debian/lintian-overrides')));
}

/** Excludes files for developers. */
const isNeeded = (file: string): boolean => !/\.(d\.[cm]?ts|map|tsbuildinfo)$|\/\.[^/]+$/.test(file);

/** Also excludes a package's tests; its nested packages are copied separately. */
const isNeededOf = (name: string): boolean =>
  !/^(node_modules|tests?|__tests__|spec|integration|bench(marks?)?|examples?)(\/|$)/.test(name);

/** The unit, with the package's fixed user instead of a dynamic one. */
function unit(): string {
  const text = readFileSync(path.join(ROOT, `deploy/systemd/${NAME}.service`), 'utf8');
  return text
    .replace(/^#.*\n/, '')
    .replace('[Unit]\n', `[Unit]\nDocumentation=man:${NAME}(1)\n`)
    .replace('DynamicUser=yes\n', `User=${NAME}\nGroup=${NAME}\n`);
}

const MAINTAINER = `The ${NAME} project <${NAME}@users.noreply.github.com>`;

const changelog = (day: Date): string => `${NAME} (${version}) stable; urgency=medium

  * What is new stands in NEWS.gz.

 -- ${MAINTAINER}  ${day.toUTCString().replace('GMT', '+0000')}
`;

const control = (architecture: string, kilobytes: number): string => `Package: ${NAME}
Version: ${version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${kilobytes}
Depends: libatomic1, libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 9), passwd
Suggests: prosody | ejabberd
Section: net
Priority: optional
Homepage: https://github.com/${NAME}/${NAME}
Description: publish the events of XMPP servers to Amazon SNS
 A daemon that takes what the users of Prosody, ejabberd or MongooseIM do (who
 comes online and goes offline, private and group messages) from an adapter in
 the server, keeps each event on disk until Amazon SNS has it, and publishes it
 as MongooseIM's mod_event_pusher is documented to do.
 .
 Node.js and all libraries are part of this package.
`;

/** Sets modes as Debian requires, and returns total size and checksums. */
function finish(stage: string): { kilobytes: number; sums: string } {
  const sums: string[] = [];
  let bytes = 0;
  const entries = readdirSync(stage, { recursive: true, withFileTypes: true }).map((entry) => ({
    entry,
    file: path.join(entry.parentPath, entry.name),
  }));
  for (const { entry, file } of entries.toSorted((a, b) => (a.file < b.file ? -1 : 1))) {
    const name = path.relative(stage, file);
    if (entry.isDirectory()) chmodSync(file, 0o755);
    if (!entry.isFile()) continue;
    const isProgram = name === `usr/lib/${NAME}/bin/${NAME}` || name === `usr/lib/${NAME}/node/node`;
    chmodSync(file, isProgram ? 0o755 : name === `etc/${NAME}/environment` ? 0o640 : 0o644);
    bytes += Math.ceil(statSync(file).size / 1_024) * 1_024;
    if (!name.startsWith('etc/')) sums.push(`${createHash('md5').update(readFileSync(file)).digest('hex')}  ${name}\n`);
  }
  return { kilobytes: Math.ceil(bytes / 1_024), sums: sums.join('') };
}

/** Builds the package; returns its path. */
function build(architecture: string, folder: string): string {
  const scratch = mkdtempSync(path.join(tmpdir(), 'deb-'));
  try {
    const stage = path.join(scratch, 'stage');
    layOut(stage, architecture, scratch);
    chmodSync(stage, 0o755);
    const { kilobytes, sums } = finish(stage);
    const debian = path.join(stage, 'DEBIAN');
    mkdirSync(debian, { mode: 0o755 });
    for (const name of ['postinst', 'prerm', 'postrm']) {
      cpSync(path.join(ROOT, 'deploy/debian', name), path.join(debian, name));
      chmodSync(path.join(debian, name), 0o755);
    }
    const files = { control: control(architecture, kilobytes), conffiles: CONFFILES, md5sums: sums };
    for (const [name, content] of Object.entries(files)) writeFileSync(path.join(debian, name), content);
    mkdirSync(folder, { recursive: true });
    const file = path.join(folder, `${NAME}_${version}_${architecture}.deb`);
    // Debian 12's dpkg reads xz; higher levels take much longer for little gain.
    run('dpkg-deb', ['--root-owner-group', '-Zxz', '-z3', '--build', stage, file]);
    return file;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const CONFFILES = `/etc/${NAME}/environment\n/etc/${NAME}/pusher.toml\n`;

/** Parses the flags; exits with a usage error if they are wrong. */
function readFlags(): { to: string; arch: string } {
  try {
    const options = { to: { type: 'string', default: ROOT }, arch: { type: 'string', default: own() } } as const;
    const { values } = parseArgs({ options });
    if (!Object.hasOwn(ARCHITECTURES, values.arch))
      throw new Error(`--arch should be ${Object.keys(ARCHITECTURES).join(' or ')}`);
    return values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\nusage: npm run deb -- [--to FOLDER] [--arch amd64|arm64]\n`);
    process.exit(2);
  }
}

function main(): void {
  const values = readFlags();
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const foreign = values.arch === 'arm64' && process.arch !== 'arm64';
  const { missing, why } = install([foreign ? 'binutils-arm64' : 'binutils', 'dpkg-deb'], say);
  if (missing.length > 0) throw new Error(`${missing.join(', ')} is missing: ${why}`);
  run(process.execPath, [path.join(ROOT, 'scripts/build.ts')]);
  const file = build(values.arch, path.resolve(values.to));
  process.stdout.write(`${file} ${(statSync(file).size / 1e6).toFixed(1)} MB\n`);
}

const own = (): string =>
  Object.keys(ARCHITECTURES).find((name) => ARCHITECTURES[name] === process.arch) ?? process.arch;

main();
