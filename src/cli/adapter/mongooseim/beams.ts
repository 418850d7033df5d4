/** The adapter's compiled modules: from this package, or compiled on this machine. */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { PusherError } from '../../../errors.ts';
import { erlangSources } from './sources.ts';

/** The build's folder for them, with a file `OTP` that contains the OTP version of the compiler. */
const PRECOMPILED = fileURLToPath(new URL('../../../mongooseim-ebin', import.meta.url));

export interface Beams {
  readonly folder: string;
  /** The version of OTP that compiled them. Later versions load them too. */
  readonly otp: number;
  [Symbol.dispose](): void;
}

/**
 * Finds or compiles modules that a release can load. A beam runs on the version of OTP that compiled it and on later
 * ones.
 * @param release the folder of MongooseIM's release, if this machine has it
 * @throws PusherError ADAPTER_INSTALL when there is no compiler, or only a newer one than the release's OTP
 */
export function findBeams(release: string | undefined, precompiled = PRECOMPILED): Beams {
  const wanted = release === undefined ? undefined : otpOf(release);
  const fits = (otp: number) => wanted === undefined || otp <= wanted;
  if (existsSync(path.join(precompiled, 'OTP'))) {
    const otp = Number(readFileSync(path.join(precompiled, 'OTP'), 'utf8'));
    if (fits(otp)) return { folder: precompiled, otp, [Symbol.dispose]: () => undefined };
  }
  const compilers = [...(release === undefined ? [] : globSync(`${release}/erts-*/bin/erlc`)), 'erlc'];
  const failures: string[] = [];
  for (const compiler of compilers) {
    const made = compile(compiler);
    if (typeof made === 'string') failures.push(`${compiler}: ${made}`);
    else if (fits(made.otp)) return made;
    else {
      made[Symbol.dispose]();
      failures.push(
        `${compiler} belongs to OTP ${made.otp}, and its output does not run on the release's OTP ${wanted}`,
      );
    }
  }
  throw new PusherError(
    'ADAPTER_INSTALL',
    `can't compile the adapter (${failures.join('; ')}): install Erlang/OTP ${wanted ?? 25} or older with its compiler (erlc), here or on another machine, and run this there with --to`,
  );
}

/** The version of OTP in a release: that of its runtime, plus 12. */
function otpOf(release: string): number | undefined {
  const file = path.join(release, 'releases/start_erl.data');
  const erts = existsSync(file) ? /^(\d+)/.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
  return erts === undefined ? undefined : Number(erts) + 12;
}

/** Compiles everything into a temporary folder; returns the error if that fails. */
export function compile(compiler: string): Beams | string {
  const folder = mkdtempSync(path.join(tmpdir(), 'xmpp-event-pusher-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const run = (...args: string[]) =>
    spawnSync(compiler, ['+deterministic', '-pa', folder, '-o', folder, ...args], { encoding: 'utf8' });
  // The compiler can't print its version, but a `-warning` can contain it.
  const asking = path.join(folder, 'otp.erl');
  writeFileSync(asking, '-module(otp).\n-warning({otp, ?OTP_RELEASE}).\n');
  const { stdout: warning, error } = run(asking);
  const otp = Number(/\{otp,(\d+)\}/.exec(warning ?? '')?.[1]);
  const compiled = error || Number.isNaN(otp) ? undefined : run(...erlangSources());
  if (compiled?.status !== 0) {
    remove();
    if (error) return 'it is not there';
    return `it fails: ${(compiled?.stdout ?? warning).trim().split('\n')[0]}`;
  }
  for (const name of ['otp.erl', 'otp.beam']) rmSync(path.join(folder, name), { force: true });
  writeFileSync(path.join(folder, 'OTP'), `${otp}\n`);
  return { folder, otp, [Symbol.dispose]: remove };
}
