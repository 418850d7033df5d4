/**
 * Generates src/config/partitions.ts from AWS's own list, part of its SDK for JavaScript. Loading the SDK's module
 * takes 14 MB of memory and a tenth of a second, for nine lines.
 *
 * Usage: npm run partitions
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Partition } from '../src/config/partitions.ts';

/** An entry of the SDK's list. */
interface AwsPartition {
  readonly id: string;
  readonly regionRegex: string;
  readonly outputs: { readonly dnsSuffix: string; readonly dualStackDnsSuffix: string };
  readonly regions: Readonly<Record<string, unknown>>;
}

/** Loads the SDK's list from inside its package. */
export async function awsPartitions(): Promise<readonly AwsPartition[]> {
  const list = '../dist-es/submodules/client/util-endpoints/lib/aws/partitions.js';
  const { partitionsInfo } = await import(new URL(list, import.meta.resolve('@aws-sdk/core')).href);
  return partitionsInfo.partitions;
}

/** The fields that we need from the SDK's list. */
export const partitionsOf = (list: readonly AwsPartition[]): Partition[] =>
  list.map(({ id, regionRegex, outputs: { dnsSuffix, dualStackDnsSuffix }, regions: named }) => {
    const regions = new RegExp(regionRegex.replaceAll('\\-', '-'));
    const others = Object.keys(named).filter((region) => !regions.test(region));
    return { name: id, regions, others, dnsSuffix, dualStackDnsSuffix };
  });

/** The source of src/config/partitions.ts, before formatting. */
function moduleOf(partitions: readonly Partition[]): string {
  const rows = partitions.map(({ name, regions, others, dnsSuffix, dualStackDnsSuffix }) => {
    return `{ name: '${name}', regions: ${regions}, others: ${JSON.stringify(others)}, dnsSuffix: '${dnsSuffix}', dualStackDnsSuffix: '${dualStackDnsSuffix}' },`;
  });
  return `/** AWS's partitions. Made by \`npm run partitions\` from the list in AWS's SDK; a test fails when it is stale. */

export interface Partition {
  /** As in ARNs. */
  readonly name: string;
  readonly regions: RegExp;
  /** Pseudo-regions, which stand for no single region. */
  readonly others: readonly string[];
  /** Suffix of the endpoints' names. */
  readonly dnsSuffix: string;
  readonly dualStackDnsSuffix: string;
}

export const PARTITIONS: readonly Partition[] = [
${rows.join('\n')}
];
`;
}

if (import.meta.main) {
  const file = fileURLToPath(new URL('../src/config/partitions.ts', import.meta.url));
  writeFileSync(file, moduleOf(partitionsOf(await awsPartitions())));
  execFileSync('biome', ['check', '--write', file], { stdio: 'inherit' });
}
