/** The command `init` in a temporary folder, with an SNS that has no topics yet. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, type TestContext } from 'node:test';
import { readEnvFile } from '../../src/config/env-file.ts';
import { loadConfig, type PusherConfig } from '../../src/config/load.ts';
import { commandLine } from './command-line.ts';
import { freePorts } from './process.ts';
import { type Sns, startSns } from './sns.ts';

export const KEY = 'AKIAIOSFODNN7EXAMPLE';
export const AWS_SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
export const ACCOUNT = '000000000000';
/** Flags that answer all its questions; the secret is in the environment. */
export const ASKED = ['--region', 'eu-west-1', '--account', ACCOUNT, '--access-key-id', KEY];

export interface InitBench {
  readonly sns: Sns;
  readonly folder: string;
  /** The output file, the SNS, free addresses, and no XMPP server. */
  readonly flags: readonly string[];
  /** A path in the folder. */
  at(name: string): string;
  text(name: string): string;
  /** Runs it with `--yes` and the flags. */
  init(t: TestContext, ...args: string[]): Promise<{ code: number; output: string }>;
  /** The configuration it wrote, as the daemon reads it. */
  loaded(): PusherConfig;
}

/** Sets up each test of a suite. */
export function useInit(): InitBench {
  let sns: Sns;
  let folder: string;
  let flags: string[];
  const aws = Object.keys(process.env).filter((name) => /^AWS_/.test(name));
  const at = (name: string) => path.join(folder, name);
  before(async () => {
    for (const name of aws) delete process.env[name];
    sns = await startSns([]);
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'init-'));
    const [tap, admin] = await freePorts(2);
    const addresses = ['--tap-listen', `127.0.0.1:${tap}`, '--admin-listen', `127.0.0.1:${admin}`];
    flags = ['--config', at('pusher.toml'), '--sns-host', sns.url, '--server', 'none', ...addresses];
    process.env.AWS_SECRET_ACCESS_KEY = AWS_SECRET;
  });
  afterEach(async () => {
    readEnvFile(at('none'), { named: false });
    delete process.env.AWS_SECRET_ACCESS_KEY;
    await rm(folder, { recursive: true });
  });
  return {
    get sns() {
      return sns;
    },
    get folder() {
      return folder;
    },
    get flags() {
      return flags;
    },
    at,
    text: (name) => readFileSync(at(name), 'utf8'),
    init: (t, ...args) => commandLine(t, 'init', '--yes', ...flags, ...args),
    loaded() {
      const environment: NodeJS.ProcessEnv = {};
      readEnvFile(at('environment'), { named: false }, environment);
      return loadConfig(at('pusher.toml'), environment);
    },
  };
}

/** The flags without one of them and its value. */
export const without = (flags: readonly string[], flag: string): string[] =>
  flags.filter((_, index) => flags[index] !== flag && flags[index - 1] !== flag);
