/** The files below deploy/, for their tests. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** @param name below deploy/ */
export const readDeployed = (name: string): Promise<string> => readFile(path.join(ROOT, 'deploy', name), 'utf8');
